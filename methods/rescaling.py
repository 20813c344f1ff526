"""From token maps to word maps, and their normalisation over space (GoCA, section on rescaling)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.tokens import StreamTokens

BLUR_SIZE = 5
BLUR_SIGMA = 0.3 * ((BLUR_SIZE - 1) / 2 - 1) + 0.8


def word_maps(token_maps: Tensor, words: Sequence[Sequence[int]]) -> Tensor:
    """Mean over each word's token columns: ``(tokens, h, w)`` to ``(words, h, w)``; no column gives NaN."""
    if not words:
        return token_maps.new_empty(0, *token_maps.shape[1:])
    return torch.stack([token_maps[list(columns)].mean(0) for columns in words])


def merged_columns(streams: Sequence[StreamTokens]) -> tuple[list[list[int]], list[list[int]]]:
    """Columns of every class and of every background word, over all text streams."""
    classes = [[c for part in word for c in part] for word in zip(*(s.classes for s in streams), strict=True)]
    background = [[c for part in word for c in part] for word in zip(*(s.background for s in streams), strict=True)]
    return classes, [columns for columns in background if columns]


def blur(maps: Tensor) -> Tensor:
    """5 x 5 Gaussian of sigma 1.1 per map ``(n, h, w)``, reflecting at the border."""
    offsets = torch.arange(BLUR_SIZE, dtype=maps.dtype, device=maps.device) - BLUR_SIZE // 2
    kernel = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], (BLUR_SIZE // 2,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def min_max(maps: Tensor) -> Tensor:
    """Each map ``(n, h, w)`` stretched to [0, 1]; a constant map gives NaN, as published."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def strongest(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pixelwise maximum over ``(n, h, w)``; zeros of ``shape`` where there is no map."""
    return maps.amax(0) if len(maps) else maps.new_zeros(shape)
