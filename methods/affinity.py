"""Refinement of scores by self-attention: pixels that attend to each other share their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.maps import AttentionMaps
from .rescaling import min_max


def resized_pixel_map(maps: AttentionMaps, site: str, side: int) -> Tensor:
    """Self-attention as float32 ``(side^2, side^2)``, query x key: keys bilinear, queries nearest.

    Rows are not renormalised, so a row of a g x g layer sums to about ``(side / g)^2`` (published behaviour).
    """
    grid = maps.sites[site].grid
    pixels = maps.pixels[site].float()
    if (grid.height, grid.width) == (side, side):
        return pixels
    keys = pixels.reshape(-1, 1, grid.height, grid.width)
    keys = F.interpolate(keys, size=(side, side), mode="bilinear", align_corners=False).reshape(len(pixels), -1)
    rows = torch.arange(side, device=keys.device) * grid.height // side
    columns = torch.arange(side, device=keys.device) * grid.width // side
    return keys[(rows[:, None] * grid.width + columns).flatten()]


def spatial_affinity(maps: AttentionMaps, sites: Sequence[str], side: int) -> Tensor:
    """Mean over sites of the resized self-attention, ``(side^2, side^2)``."""
    total = resized_pixel_map(maps, sites[0], side)
    for site in sites[1:]:
        total = total + resized_pixel_map(maps, site, side)
    return total / len(sites)


def propagate(scores: Tensor, affinity: Tensor, order: int) -> Tensor:
    """``scores`` ``(n, side, side)`` multiplied ``order`` times by ``affinity``, then min-max per map."""
    vectors = scores.flatten(1).T
    for _ in range(order):
        vectors = affinity @ vectors
    return min_max(vectors.T.reshape(scores.shape))
