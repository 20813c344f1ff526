"""Resizing of token maps and of pixel-to-pixel maps, as the published code of GoCA does it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.attention.sites import Grid

SMALLEST_SUM = 1e-12


def resized_tokens(text: Tensor, grid: Grid, score_size: int) -> Tensor:
    """Resize ``(pixels, tokens)`` to square ``(tokens, score_size, score_size)``, bilinearly without antialias."""
    image = text.T.reshape(1, -1, grid.height, grid.width)
    return F.interpolate(image, size=(score_size, score_size), mode="bilinear", align_corners=False)[0]


def nearest(source: int, target: int, device: torch.device) -> Tensor:
    """Return the position that every one of ``target`` takes: floor(i * source / target)."""
    return torch.arange(target, device=device) * source // target


def nearest_rows(source: Grid, target: Grid, device: torch.device) -> Tensor:
    """Return the pixel of ``source`` that every pixel of ``target`` takes, by nearest."""
    rows = nearest(source.height, target.height, device)
    columns = nearest(source.width, target.width, device)
    return (rows[:, None] * source.width + columns).flatten()


def resized_rows(rows: Tensor, source: Grid, target: Grid, renormalised: bool = False) -> Tensor:
    """Resize the keys of query rows ``(n, source pixels)`` bilinearly: float32 ``(n, target pixels)``.

    A row of a g x g map sums to about ``(target / g)^2`` afterwards, or to one if ``renormalised``.
    """
    rows = rows.float()
    if source != target:
        keys = rows.reshape(-1, 1, source.height, source.width)
        size = (target.height, target.width)
        rows = F.interpolate(keys, size=size, mode="bilinear", align_corners=False).flatten(1)
    return rows / rows.sum(1, keepdim=True).clamp(min=SMALLEST_SUM) if renormalised else rows


def resized_pixels(pixels: Tensor, source: Grid, target: Grid, renormalised: bool = False) -> Tensor:
    """Resize a pixel-to-pixel map, keys bilinearly and queries by nearest: float32 ``(pixels, pixels)``."""
    resized = resized_rows(pixels, source, target, renormalised)
    return resized if source == target else resized[nearest_rows(source, target, pixels.device)]
