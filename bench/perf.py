"""Time and memory of observing attention, as ratios against the plain fused forward of the same network.

Plain is prompt encoding, VAE encoding and one fused denoiser forward. Random weights do: neither the time nor
the memory depends on their values.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.maps import CaptureSettings, MapRequest
from ..datasets.prompts import class_prompt
from ..methods.method import Method
from .memory import PeakMemory

PROMPT = class_prompt(["star", "ring"], ["grass", "background"])


@dataclass(frozen=True)
class Cost:
    """seconds: median wall time. peak_bytes: largest memory of the process, or of the GPU, while it ran."""

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


def measure(work: Callable[[], object], device: torch.device, repeats: int) -> Cost:
    """Cost of ``work`` over ``repeats`` runs."""
    memory, seconds = PeakMemory(device), []
    memory.reset()
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return Cost(median(seconds), memory.read())


def compare(backbone: Backbone, methods: Sequence[Method], repeats: int = 3) -> Comparison:
    """Cost of one image through all ``methods`` in one forward against the plain forward.

    Plain and observed forwards alternate, after one of each that does not count.
    """
    settings = methods[0].settings
    backbone.check_size(settings.image_size)
    requests = [method.request(backbone.sites(settings.image_size)) for method in methods]
    merged = MapRequest()
    for request in requests:
        merged |= request
    noise = np.random.default_rng(0).integers(0, 256, (settings.image_size, settings.image_size, 3), np.uint8)
    image = Image.fromarray(noise)
    device = backbone.device
    text = measure(lambda: backbone.conditioning(PROMPT.text), device, 1)
    backbone.free_text_encoders()
    gc.collect()
    encode = measure(lambda: _encode(backbone, image, settings), device, 1)
    latent = _encode(backbone, image, settings)
    level = backbone.noise_level(settings)
    timestep, conditioning = torch.tensor([level.timestep], device=device), backbone.conditioning(PROMPT.text)

    def plain() -> None:
        with torch.no_grad():
            backbone.denoise(latent.to(backbone.dtype), timestep, conditioning)

    def observed() -> None:
        maps = backbone.observe(latent, level, PROMPT, merged, settings.image_size)
        for method, request in zip(methods, requests, strict=True):
            method(maps.only(request))

    plain()
    observed()
    pairs = [(measure(plain, device, 1), measure(observed, device, 1)) for _ in range(repeats)]
    return Comparison(
        text=text,
        image=encode,
        plain=_middle([first for first, _ in pairs]),
        observed=_middle([second for _, second in pairs]),
        text_maps=len(merged.text),
        pixel_maps=len(merged.pixels),
    )


def _middle(costs: list[Cost]) -> Cost:
    return Cost(median(cost.seconds for cost in costs), int(median(cost.peak_bytes for cost in costs)))


def _encode(backbone: Backbone, image: Image.Image, settings: CaptureSettings) -> torch.Tensor:
    return backbone.encode_image(image, settings, torch.Generator().manual_seed(0))
