"""GoCA's auto aggregation over layers (arXiv 2603.06178).

A layer counts as much as its self-attention agrees with the affinity of a reference feature.
Resizing a self-attention map is linear, so <reference, resized map> = <adjoint of the resize applied to the
reference, map>: the reference is brought to each resolution once, no map is resized.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.attention.agreement import Agreement
from ..backbones.attention.rules import AttentionSimilarity, LayerSimilarity, Similarity
from ..backbones.attention.sites import Grid
from .resizing import SMALLEST_SUM, nearest, nearest_rows, resized_rows
from .safe_division import shares

LayerMeasure = Literal["dot-product", "mse", "iou-like"]
IOU_EPSILON = 1e-4
# Rows of a map in float32 at a time.
ROWS = 512


@dataclass(frozen=True)
class ReferenceAffinity(LayerSimilarity):
    """Measures how a site's self-attention agrees with R = softmax(F F^T / sqrt(c)), F the reference feature."""

    reference_site: str
    measure: LayerMeasure = "dot-product"
    """``dot-product`` sum(R * map), ``mse`` 1 / sum of the rows' Euclidean distances, ``iou-like``
    sum min / sum max."""
    channels: Literal["first", "all"] = "first"
    """Channels of F: the first alone (published code), or all."""
    renormalised: bool = False
    """Rows of the resized map are divided by their sum. The published code does not, which favours coarse layers."""

    def bind(self, feature: Tensor, grid: Grid) -> Similarity:
        """Return the measure for one reference feature, see ``LayerSimilarity.bind``."""
        reference = affinity(feature if self.channels == "all" else feature[:, :1])
        if self.measure == "dot-product":
            return _Inner(reference, grid, self.renormalised)
        compare = _inverse_distance if self.measure == "mse" else _overlap

        def similarity(pixels: Tensor, at: Grid) -> Tensor:
            return compare(reference, pixels, at, grid, self.renormalised)

        return similarity

    @property
    def needs_map(self) -> bool:
        """Inner products with the affinity of one channel follow from log-sum-exps."""
        return self.measure != "dot-product" or self.channels != "first"

    def bind_attention(self, feature: Tensor) -> AttentionSimilarity:
        """Return the measure for one reference feature, see ``LayerSimilarity.bind_attention``."""
        return Agreement(feature[:, :1], self.renormalised)


def affinity(feature: Tensor) -> Tensor:
    """Return softmax(F F^T / sqrt(channels)) of a feature ``(pixels, channels)``."""
    logits = feature @ feature.T
    logits *= feature.shape[1] ** -0.5
    return torch.softmax(logits, dim=-1, out=logits)


class _Inner:
    """Computes sum(R * resized map) for maps of any grid."""

    def __init__(self, reference: Tensor, grid: Grid, renormalised: bool) -> None:
        self.reference, self.grid, self.renormalised = reference, grid, renormalised
        self._adjoints: dict[Grid, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor, at: Grid) -> Tensor:
        if at not in self._adjoints:
            self._adjoints[at] = self._adjoint(at)
        rows, reference, mass = self._adjoints[at]
        total = reference.new_zeros(())
        for part in _parts(len(rows)):
            chosen = pixels[rows[part]].float()
            products = (chosen * reference[part]).sum(1)
            if self.renormalised:
                products = products / (chosen @ mass).clamp(min=SMALLEST_SUM)
            total = total + products.sum()
        return total

    def _adjoint(self, at: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Query rows that the nearest resize picks, R folded onto them and onto ``at``'s keys, and key mass."""
        if at == self.grid:
            every = torch.arange(at.pixels, device=self.reference.device)
            return every, self.reference, torch.ones(at.pixels, device=self.reference.device)
        device = self.reference.device
        rows, columns = (
            _nearest(a, b, device) for a, b in ((at.height, self.grid.height), (at.width, self.grid.width))
        )
        height = _bilinear(at.height, self.grid.height, self.reference)
        width = _bilinear(at.width, self.grid.width, self.reference)
        # Matrix products rather than scattered sums: a GPU adds those in any order.
        queries = self.reference.unflatten(0, (self.grid.height, self.grid.width))
        picked = columns.matrix.T @ (rows.matrix.T @ queries.flatten(1)).unflatten(1, queries.shape[1:])
        keys = picked.flatten(0, 1).unflatten(1, (self.grid.height, self.grid.width))
        chosen = (rows.picked[:, None] * at.width + columns.picked).flatten()
        mass = torch.outer(height.sum(0), width.sum(0)).flatten()
        return chosen, (height.T @ keys @ width).flatten(1), mass


@dataclass(frozen=True)
class _Picks:
    """Source positions that a nearest resize picks, and the matrix from them, ``(target, picked)``."""

    picked: Tensor
    matrix: Tensor


def _nearest(source: int, target: int, device: torch.device) -> _Picks:
    picked, inverse = nearest(source, target, torch.device("cpu")).unique(return_inverse=True)
    return _Picks(picked.to(device), F.one_hot(inverse, len(picked)).float().to(device))


def _bilinear(source: int, target: int, like: Tensor) -> Tensor:
    """The matrix of a linear resize, ``(target, source)``: align_corners false, no antialias."""
    identity = torch.eye(source, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T


def _parts(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS):
        yield slice(start, start + ROWS)


def _targets(pixels: Tensor, at: Grid, grid: Grid, renormalised: bool) -> Iterator[tuple[slice, Tensor]]:
    """The resized map, some rows at a time."""
    rows = nearest_rows(at, grid, pixels.device)
    for part in _parts(len(rows)):
        yield part, resized_rows(pixels[rows[part]], at, grid, renormalised)


def _inverse_distance(reference: Tensor, pixels: Tensor, at: Grid, grid: Grid, renormalised: bool) -> Tensor:
    distance = reference.new_zeros(())
    for part, target in _targets(pixels, at, grid, renormalised):
        distance = distance + (reference[part] - target).norm(dim=1).sum()
    return 1 / distance


def _overlap(reference: Tensor, pixels: Tensor, at: Grid, grid: Grid, renormalised: bool) -> Tensor:
    common, either = reference.new_zeros(()), reference.new_zeros(())
    for part, target in _targets(pixels, at, grid, renormalised):
        common = common + torch.minimum(reference[part], target).sum()
        either = either + torch.maximum(reference[part], target).sum()
    return common / (either + IOU_EPSILON)


def layer_weights(similarity: dict[str, Tensor], safe_division: bool = False) -> dict[str, Tensor]:
    """Clamp similarities at 0 and divide them by their sum; 0 / 0 is equal weights with ``safe_division``."""
    raw = torch.stack([*similarity.values()]).clamp(min=0)
    weights = shares(raw) if safe_division else raw / raw.sum()
    return dict(zip(similarity, weights, strict=True))


def uniform_weights(sites: tuple[str, ...]) -> dict[str, float]:
    """Weigh all sites the same."""
    return dict.fromkeys(sites, 1 / len(sites))
