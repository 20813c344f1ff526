"""Time and memory of observing attention, as ratios against the plain fused forward of the same network.

Plain is prompt encoding, VAE encoding and one fused denoiser forward. Random weights do: neither the time nor
the memory depends on their values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from segscale.errors import UserError

from ..backbones.backbone import Backbone
from ..datasets.prompts.described import class_prompt
from ..methods.method import Method
from .inference.memory import PeakMemory

Result = TypeVar("Result")
PROMPT = class_prompt(["star", "ring"], ["grass", "background"])


@dataclass(frozen=True)
class Cost:
    """seconds: wall time. peak_bytes: largest memory of the process, or of the GPU, while it ran."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Comparison:
    """plain and observed: denoiser forward alone, without and with observation and methods.

    text, image: encoding of the prompt and of the image, the same for both. text_maps, pixel_maps: sites observed.
    """

    text: Cost
    image: Cost
    plain: Cost
    observed: Cost
    text_maps: int
    pixel_maps: int

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
    memory.reset()
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Cost(time.perf_counter() - start, memory.read()), result


def compare(backbone: Backbone, methods: Sequence[Method], repeats: int = 3) -> Comparison:
    """Cost of one image through all ``methods`` in one forward against the plain forward.

    Plain and observed forwards alternate, after one of each that does not count.
    """
    settings = methods[0].settings
    apart = [one.name for one in methods if (one.settings, one.prompt.text) != (settings, methods[0].prompt.text)]
    if apart:
        raise UserError(f"{apart[0]} cannot share a forward with {methods[0].name}", "measure them one by one")
    backbone.check_size(settings.image_size)
    requests = [method.request(backbone.sites(settings.image_size)) for method in methods]
    merged = reduce(or_, requests)
    noise = np.random.default_rng(0).integers(0, 256, (settings.image_size, settings.image_size, 3), np.uint8)
    image = Image.fromarray(noise)
    device = backbone.device
    text, conditioning = measure(lambda: backbone.conditioning(PROMPT.text), device)
    backbone.free_text_encoders()
    encode, latent = measure(lambda: backbone.encode_image(image, settings, torch.Generator().manual_seed(0)), device)
    level = backbone.noise_level(settings)
    timestep = torch.tensor([level.timestep], device=device)

    def plain() -> None:
        with torch.no_grad():
            backbone.denoise(latent.to(backbone.dtype), timestep, conditioning)

    def observed() -> None:
        maps = backbone.observe(latent, level, PROMPT, merged, settings.image_size)
        for method, request in zip(methods, requests, strict=True):
            method(maps.only(request))

    plain()
    observed()
    pairs = [(measure(plain, device)[0], measure(observed, device)[0]) for _ in range(repeats)]
    return Comparison(
        text=text,
        image=encode,
        plain=_middle([first for first, _ in pairs]),
        observed=_middle([second for _, second in pairs]),
        text_maps=len(merged.text | {site for site, _ in merged.weighted}),
        pixel_maps=len(merged.pixels | {site for site, _ in merged.similar}),
    )


def _middle(costs: list[Cost]) -> Cost:
    return Cost(median(cost.seconds for cost in costs), int(median(cost.peak_bytes for cost in costs)))
