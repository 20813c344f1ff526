"""From a picture to the pixel values a VAE is given."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .settings import CaptureSettings

SHORT_EDGE = 0.625
LONG_EDGE = 2.5
PADDED_TO = 32


def _unit_range(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def shortest_edge_size(width: int, height: int, short: float, long: float) -> tuple[int, int]:
    """Return the size with its short edge at ``short`` and its long edge at most ``long``, rounded half up, never 0."""
    scale = short / min(width, height)
    if max(width, height) * scale > long:
        scale = long / max(width, height)
    return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))


def pixel_values(image: Image.Image, settings: CaptureSettings) -> Tensor:
    """Resize an image to float32 ``(1, 3, size, size)`` in the settings' range; the aspect ratio is not kept.

    ``bicubic`` is one resize, before the conversion to RGB (GoCA). ``shortest-edge`` is a bilinear resize to a short
    edge of 0.625 and a long edge of at most 2.5 times the size, then a bilinear one without antialias (Seg4Diff).
    """
    unit = _square(image, settings)
    return unit if settings.pixel_range == "unit" else unit * 2 - 1


def _square(image: Image.Image, settings: CaptureSettings) -> Tensor:
    size = settings.image_size
    if settings.resize == "bicubic":
        return _unit_range(image.resize((size, size)))
    padded = settings.resize == "shortest-edge-padded"
    short = image.convert("RGB").resize(
        shortest_edge_size(*image.size, SHORT_EDGE * size, LONG_EDGE * size), Image.Resampling.BILINEAR
    )
    unit = _unit_range(short)
    if padded:
        unit = F.pad(unit, (0, -unit.shape[3] % PADDED_TO, 0, -unit.shape[2] % PADDED_TO))
    return F.interpolate(unit, size=(size, size), mode="bilinear", align_corners=False)


def images_of(values: Tensor) -> list[Image.Image]:
    """Turn what a VAE decodes, ``(n, 3, height, width)`` in [-1, 1], into RGB images; values beyond are clipped."""
    levels = ((values.float() / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return [Image.fromarray(levels_of.permute(1, 2, 0).numpy()) for levels_of in levels]
