"""Refinement of scores by self-attention: pixels that attend to each other share their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.sites import Grid
from .rescaling import is_constant, min_max, of_constant
from .resizing import resized_pixels


def spatial_affinity(maps: AttentionMaps, sites: Sequence[str], score_size: int, renormalised: bool = False) -> Tensor:
    """Average the resized self-attention of sites; methods of one image share the result.

    Returns:
        ``(score_size^2, score_size^2)``, query x key. Rows of a g x g site sum to about ``(score_size / g)^2``
        (published), or to one if ``renormalised``.
    """
    key = ("spatial affinity", tuple(sites), score_size, renormalised)
    if key not in maps.shared_cache:
        maps.shared_cache[key] = _spatial_affinity(maps, sites, score_size, renormalised)
    return maps.shared_cache[key]


def _spatial_affinity(maps: AttentionMaps, sites: Sequence[str], score_size: int, renormalised: bool) -> Tensor:
    grid = Grid(score_size, score_size)
    total = resized_pixels(maps.pixels[sites[0]], maps.sites[sites[0]].grid, grid, renormalised)
    # A map that needed no resize may be the capture's own.
    total = total.clone() if total.data_ptr() == maps.pixels[sites[0]].data_ptr() else total
    for site in sites[1:]:
        total += resized_pixels(maps.pixels[site], maps.sites[site].grid, grid, renormalised)
    return total.div_(len(sites))


def propagate(scores: Tensor, affinity: Tensor, order: int, safe_division: bool = False) -> Tensor:
    """Multiply square ``scores`` ``(n, size, size)`` ``order`` times by ``affinity``, then stretch every map.

    A constant map stays constant: what the product makes of it is the rounding of rows whose sum is one.
    """
    vectors = scores.flatten(1).T
    for _ in range(order):
        vectors = affinity @ vectors
    stretched = min_max(vectors.T.reshape(scores.shape), safe_division)
    return torch.where(is_constant(scores), of_constant(safe_division), stretched)
