"""Aggregation of token maps over layers of different resolution."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from ..backbones.maps import AttentionMaps


def resized_token_maps(maps: AttentionMaps, site: str, side: int) -> Tensor:
    """``(tokens, side, side)``: bilinear, align_corners false, no antialias, not renormalised."""
    grid = maps.sites[site].grid
    image = maps.text[site].T.reshape(1, -1, grid.height, grid.width)
    return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)[0]


def aggregate(maps: AttentionMaps, weights: Mapping[str, float], side: int) -> Tensor:
    """Weighted sum over sites, clamped at 0, then divided by its sum over all tokens; ``(tokens, side, side)``."""
    total: Tensor | None = None
    for site, weight in weights.items():
        share = weight * resized_token_maps(maps, site, side)
        total = share if total is None else total + share
    if total is None:
        raise ValueError("no site to aggregate")
    total = total.clamp(min=0)
    return total / total.sum(0)


def uniform_weights(sites: tuple[str, ...]) -> dict[str, float]:
    return dict.fromkeys(sites, 1 / len(sites))
