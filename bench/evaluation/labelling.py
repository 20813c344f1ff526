"""From class scores to the class that wins each pixel, at every threshold of the background at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...methods.method import ClassScores
from .decision import NO_CLASS, BackgroundRule, Decision
from .pixel_counts import PixelDecision

WHOLE_NUMBERS = 1 << 25
"""Of a picture's resized maps at most; a larger picture is decided in strips, so that memory does not grow with it."""
STRIP_NUMBERS = 1 << 22


def resize_scores(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(n, h, w)`` to float32 ``(n, *size)`` on the CPU: bilinear, align_corners false, no antialias."""
    return F.interpolate(maps[None].float().cpu(), size=size, mode="bilinear", align_corners=False)[0]


def resize_rows(maps: Tensor, size: tuple[int, int], rows: range) -> Tensor:
    """Some rows of ``resize_scores(maps, size)``, float32 ``(n, len(rows), width)``, without making the others.

    Sums are rounded in another order, so that the last bit can differ.
    """
    height, width = size
    if rows == range(height):
        return resize_scores(maps, size)
    across = resize_scores(maps, (maps.shape[1], width))
    # What each row of the result takes of the rows of the maps.
    shares = resize_scores(torch.eye(maps.shape[1])[:, :, None], (height, 1))[:, rows.start : rows.stop, 0]
    first = (shares > 0).float().argmax(0)
    second = (first + 1).clamp(max=maps.shape[1] - 1)
    weight = shares.gather(0, first[None])[0, :, None]
    return across[:, first].mul_(weight).add_(across[:, second].mul_(1 - weight))


def strips(size: tuple[int, int], maps: int) -> list[range]:
    """Rows of a picture of ``size`` in parts whose ``maps`` fit into ``STRIP_NUMBERS``; a small picture is one part."""
    height, width = size
    rows = height if height * width * maps <= WHOLE_NUMBERS else max(1, STRIP_NUMBERS // (width * maps))
    return [range(first, min(first + rows, height)) for first in range(0, height, rows)]


def decide_pixels(
    scores: ClassScores,
    class_ids: tuple[int, ...],
    decision: Decision,
    size: tuple[int, int],
    rows: range | None = None,
) -> PixelDecision:
    """Decide what wins each pixel.

    Args:
        scores: One map per class of ``class_ids``, in its order.
        class_ids: Ids of the maps, in any order.
        decision: How background and absent classes compete.
        size: Height and width of the label, in pixels.
        rows: Of the label, which alone are decided; all, where they are None.
    """
    rows = range(size[0]) if rows is None else rows
    resized = partial(_resized, size=size, rows=rows, decision=decision)
    value, best = _best_class(scores.classes, class_ids, decision, resized, (len(rows), size[1]))
    background_wins = np.zeros(value.shape, np.int16)
    if decision.rule != "none":
        background = resized(scores.background[None])[0].numpy()
        for threshold in decision.thresholds:
            background_wins += _background_score(background, threshold, decision.rule) >= value
        if decision.rule != "fixed":
            background_wins[np.isnan(background)] = len(decision.thresholds)
    return PixelDecision(best, background_wins)


def _best_class(
    maps: Tensor,
    class_ids: tuple[int, ...],
    decision: Decision,
    resized: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Score and id of the best class of every pixel."""
    taken = {*class_ids, decision.background_id}
    known = all(0 <= id < decision.class_count for id in class_ids)
    if not known or len(class_ids) != len(maps) or len(taken) != len(maps) + 1:
        raise ValueError(f"class ids {class_ids} for {len(maps)} maps of {decision.class_count} classes")
    value, best = np.full(shape, -np.inf, np.float32), np.full(shape, NO_CLASS, np.int16)
    for id, place in sorted(zip(class_ids, range(len(maps)), strict=True)):
        # One at a time: a map at the size of a label stays in the processor's cache.
        score = resized(maps[place : place + 1])[0].numpy()
        # The first score that is no number beats all others.
        wins = ~(score <= value) & (value == value)
        np.maximum(value, score, out=value)
        best[wins] = id
    absent = next((id for id in range(decision.class_count) if id not in taken), None)
    if decision.absent == "zero" and absent is not None:
        # All absent classes score 0, so only the first of them can win.
        wins = (value < 0) | ((value == 0) & (best > absent))
        value[wins], best[wins] = 0, absent
    return value, best


def _resized(maps: Tensor, size: tuple[int, int], rows: range, decision: Decision) -> Tensor:
    resized = resize_rows(maps, size, rows)
    # Between finite scores lie finite ones.
    if decision.undefined == "wins" or maps.isfinite().all():
        return resized
    return resized.where(resized.isfinite(), -torch.inf)


def _background_score(background: NDArray[np.float32], threshold: float, rule: BackgroundRule) -> NDArray[np.float32]:
    t = np.float32(threshold)
    if rule == "offset":
        return background + t
    if rule == "fixed":
        return np.full_like(background, t)
    if rule == "max":
        return np.maximum(background, t)
    if rule == "average":
        return (background + t) / np.float32(2)
    return background
