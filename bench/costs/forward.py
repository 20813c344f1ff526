"""Time and memory of observing attention, as ratios against the plain fused forward of the same network.

Plain is prompt encoding, VAE encoding and one fused denoiser forward. Random weights do: neither the time nor
the memory depends on their values.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from segscale.errors import UserError
from segscale.registry import build

from ...backbones.attention.ways import Way
from ...backbones.backbone import Backbone
from ...datasets.dataset import Sample
from ...methods.method import Method
from ..inference.memory import PeakMemory
from ..inference.score import ScoredImage, score
from ..tasks.pictures import picture_sample, task_of_classes
from ..tasks.task import Task

Result = TypeVar("Result")
CLASSES = ("star", "ring")
CAPTION = "star, ring, grass"


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    seconds: float
    """Wall time."""
    peak_bytes: int
    """Largest memory of the process, or of the GPU, while it ran."""


@dataclass(frozen=True)
class Comparison:
    """What observation costs beside the plain forward."""

    text: Cost
    """Of encoding the prompt, the same for both."""
    image: Cost
    """Of encoding the image, the same for both."""
    plain: Cost
    """Of the denoiser forward alone."""
    observed: Cost
    """Of the denoiser forward with observation and methods."""
    ways: Mapping[Way, int]
    """How many attention modules were observed in each way."""
    text_maps: int
    """Number of sites whose text maps were observed."""
    pixel_maps: int
    """Number of sites whose pixel-to-pixel maps were observed."""

    @property
    def denoiser_ratio(self) -> float:
        """Observed over plain, denoiser and methods alone."""
        return self.observed.seconds / self.plain.seconds

    @property
    def ratio(self) -> float:
        """Observed over plain, the whole image."""
        shared = self.text.seconds + self.image.seconds
        return (shared + self.observed.seconds) / (shared + self.plain.seconds)

    @property
    def extra_bytes(self) -> int:
        """Memory that observation adds to the peak of the plain forward."""
        return self.observed.peak_bytes - self.plain.peak_bytes


def measure(work: Callable[[], Result], device: torch.device) -> tuple[Cost, Result]:
    """Cost of running ``work`` once, and what it returned."""
    memory = PeakMemory(device)
    gc.collect()
    memory.reset()
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return Cost(time.perf_counter() - start, memory.read()), result


def _wait(device: torch.device) -> None:
    """Return once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def compare(backbone: Backbone, methods: Sequence[Method], repeats: int = 3) -> Comparison:
    """Cost of one image through all ``methods`` in one forward against the plain forward.

    Everything runs once before it counts; plain and observed forwards alternate.

    Raises:
        UserError: For methods that cannot share a forward.
    """
    settings = methods[0].settings
    backbone.check_size(settings.image_size)
    task = task_of_classes(CLASSES, build("protocol", "standard"))
    noise = np.random.default_rng(0).integers(0, 256, (settings.image_size, settings.image_size, 3), np.uint8)
    sample = picture_sample(task, Image.fromarray(noise), CAPTION)
    text = _shared_text(backbone, task, methods, sample)
    device = backbone.device
    # The first call of each sets libraries up; another text, because prompts are remembered.
    measure(lambda: backbone.conditioning([f"{text}."]), device)
    text_cost, conditioning = measure(lambda: backbone.conditioning([text]), device)
    backbone.free_text_encoders()
    generator = torch.Generator().manual_seed(0)
    measure(lambda: backbone.encode_images([sample.image], settings, [torch.Generator().manual_seed(0)]), device)
    encode, latent = measure(lambda: backbone.encode_images([sample.image], settings, [generator]), device)
    level = backbone.noise_level(settings)
    timestep = torch.tensor([level.timestep], device=device)

    def plain() -> None:
        with torch.no_grad():
            backbone.denoise(latent.to(backbone.dtype), timestep, conditioning)

    def observed() -> list[ScoredImage]:
        return score(backbone, task, methods, [sample], lambda *_: [(latent, level)])

    plain()
    (scored,) = observed()
    pairs = [(measure(plain, device)[0], measure(observed, device)[0]) for _ in range(repeats)]
    sites = backbone.sites(settings.image_size)
    merged = reduce(or_, [method.request(sites) for method in methods])
    return Comparison(
        text=text_cost,
        image=encode,
        plain=_middle([first for first, _ in pairs]),
        observed=_middle([second for _, second in pairs]),
        ways=Counter(scored.ways.values()),
        text_maps=len(merged.text | {site for site, _ in merged.weighted}),
        pixel_maps=len(merged.pixels | {site for site, _ in merged.similar}),
    )


def _shared_text(backbone: Backbone, task: Task, methods: Sequence[Method], sample: Sample) -> str:
    """The one prompt text of all methods."""
    asked = {method.name: (method.settings, task.prompts(method, sample, backbone).texts) for method in methods}
    first = asked[methods[0].name]
    apart = [name for name, question in asked.items() if question != first]
    if apart:
        raise UserError(f"{apart[0]} cannot share a forward with {methods[0].name}", "measure them one by one")
    return first[1][0]


def _middle(costs: list[Cost]) -> Cost:
    return Cost(median(cost.seconds for cost in costs), int(median(cost.peak_bytes for cost in costs)))
