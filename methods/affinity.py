"""Refinement of scores by self-attention: pixels that attend to each other share their scores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.sites import Grid
from .rescaling import min_max
from .resizing import resized_pixels


def spatial_affinity(maps: AttentionMaps, sites: Sequence[str], side: int, renormalised: bool = False) -> Tensor:
    """Mean over sites of the resized self-attention, ``(side^2, side^2)``, query x key.

    Rows of a g x g site sum to about ``(side / g)^2`` (published), or to one if ``renormalised``. Methods of one image
    share the result.
    """
    key = ("spatial affinity", tuple(sites), side, renormalised)
    if key not in maps.derived:
        maps.derived[key] = _spatial_affinity(maps, sites, side, renormalised)
    return maps.derived[key]


def _spatial_affinity(maps: AttentionMaps, sites: Sequence[str], side: int, renormalised: bool) -> Tensor:
    grid = Grid(side, side)
    total = resized_pixels(maps.pixels[sites[0]], maps.sites[sites[0]].grid, grid, renormalised)
    # A map that needed no resize may be the capture's own.
    total = total.clone() if total.data_ptr() == maps.pixels[sites[0]].data_ptr() else total
    for site in sites[1:]:
        total += resized_pixels(maps.pixels[site], maps.sites[site].grid, grid, renormalised)
    return total.div_(len(sites))


def propagate(scores: Tensor, affinity: Tensor, order: int, guarded: bool = False) -> Tensor:
    """``scores`` ``(n, side, side)`` multiplied ``order`` times by ``affinity``, then min-max per map."""
    vectors = scores.flatten(1).T
    for _ in range(order):
        vectors = affinity @ vectors
    return min_max(vectors.T.reshape(scores.shape), guarded)
