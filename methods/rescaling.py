"""From token maps to word maps, and GoCA's per-pixel rescaling and per-token renormalisation (arXiv 2603.06178)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.text.tokens import StreamTokens
from .safe_division import ratio

Rescaling = Literal[
    "raw",
    "maximum",
    "min-max",
    "share",
    "share+maximum",
    "share+min-max",
    "share+maximum x raw",
    "share+min-max x raw",
    "share+min-max x raw+min-max",
]
WordRule = Literal["mean", "sum"]
RESCALINGS: tuple[Rescaling, ...] = get_args(Rescaling)
BLUR_SIZE = 5
# Share of a map's pixels that speak for its word being there at all.
PEAK_SHARE = 0.1
# How often the smallest relative step of a number a blur's or a product's rounding may add up to.
ROUNDING = 16
BLUR_SIGMA = 0.3 * ((BLUR_SIZE - 1) / 2 - 1) + 0.8


def merged_columns(streams: Sequence[StreamTokens]) -> tuple[list[list[int]], list[list[int]]]:
    """Join the columns of every class and of every background word over all text streams."""
    classes = [[c for part in word for c in part] for word in zip(*(s.classes for s in streams), strict=True)]
    background = [[c for part in word for c in part] for word in zip(*(s.background for s in streams), strict=True)]
    return classes, [columns for columns in background if columns]


def rescaling_columns(streams: Sequence[StreamTokens]) -> list[int]:
    """Return the columns of all words over all text streams; their sum is a pixel's total."""
    return sorted({column for stream in streams for word in stream.classes + stream.background for column in word})


def word_maps(
    token_maps: Tensor, words: Sequence[Sequence[int]], safe_division: bool = False, rule: WordRule = "mean"
) -> Tensor:
    """Merge each word's columns into ``(words, h, w)``.

    The mean of no column is NaN, or 0 with ``safe_division``; their sum is 0.
    """
    if not words:
        return token_maps.new_empty(0, *token_maps.shape[1:])
    zeros = token_maps.new_zeros(token_maps.shape[1:])
    merge = torch.mean if rule == "mean" else torch.sum
    maps = [zeros if safe_division and not columns else merge(token_maps[list(columns)], 0) for columns in words]
    return torch.stack(maps)


def rescale(words: Tensor, factor: Tensor, rule: Rescaling, safe_division: bool = False) -> Tensor:
    """Rescale word maps.

    Args:
        words: Word maps ``(n, h, w)``.
        factor: The total of all words' tokens, ``(h, w)``.
        rule: ``share`` divides by the factor, per pixel; ``maximum`` divides by the map's maximum; ``min-max`` blurs,
            then stretches to [0, 1]; ``x raw`` multiplies by the word map again.
        safe_division: Whether the result is 0 where the published code has 0 / 0.
    """
    if not len(words):
        return words
    first, *then = rule.split(" x ")
    maps = words
    for step in first.split("+"):
        if step == "share":
            maps = ratio(maps, factor.expand_as(maps)) if safe_division else maps / factor
        elif step != "raw":
            maps = _stretch(maps, step, safe_division)
    if then:
        maps = maps * words
        if then[0].endswith("min-max"):
            maps = _stretch(maps, "min-max", safe_division)
    return maps


def _stretch(maps: Tensor, rule: str, safe_division: bool) -> Tensor:
    if rule == "min-max":
        return min_max(blur(maps), safe_division)
    highest = maps.amax((1, 2), keepdim=True)
    return ratio(maps, highest.expand_as(maps)) if safe_division else maps / highest


def blur(maps: Tensor) -> Tensor:
    """Blur each map ``(n, h, w)`` by a 5 x 5 Gaussian of sigma 1.1 that reflects at the border."""
    offsets = torch.arange(BLUR_SIZE, dtype=maps.dtype, device=maps.device) - BLUR_SIZE // 2
    kernel = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], (BLUR_SIZE // 2,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def is_constant(maps: Tensor) -> Tensor:
    """Whether each map ``(n, h, w)`` varies by rounding alone: ``(n, 1, 1)``, bool.

    Stretched it would be noise, another one on every machine.
    """
    return _agree(*_extremes(maps))


def min_max(maps: Tensor, safe_division: bool = False) -> Tensor:
    """Stretch each map ``(n, h, w)`` to [0, 1]; a constant map is NaN, as published, or 0 with ``safe_division``."""
    low, high = _extremes(maps)
    return torch.where(_agree(low, high), of_constant(safe_division), (maps - low) / (high - low))


def _extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    return maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)


def _agree(low: Tensor, high: Tensor) -> Tensor:
    return high - low <= ROUNDING * torch.finfo(low.dtype).eps * torch.maximum(low.abs(), high.abs())


def of_constant(safe_division: bool) -> float:
    """What a constant map becomes."""
    return 0.0 if safe_division else math.nan


def peak_contrast(words: Tensor) -> Tensor:
    """Return the mean of each map's strongest 10 % of pixels minus the mean of all: ``(n, h, w)`` to ``(n,)``.

    A word that is not there has an even map, which can be high all over where the prompt has few other words.
    """
    count = max(1, round(PEAK_SHARE * words.shape[1] * words.shape[2]))
    return words.flatten(1).topk(count, dim=1).values.mean(1) - words.mean((1, 2))


def strongest(maps: Tensor) -> Tensor:
    """Take the pixelwise maximum over ``(n, h, w)``; zeros where there is no map."""
    return maps.amax(0) if len(maps) else maps.new_zeros(maps.shape[1:])
