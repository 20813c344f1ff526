"""From class scores to the class that wins each pixel, at every threshold of the background at once."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...methods.method import ClassScores
from .decision import NO_CLASS, BackgroundRule, Decision
from .pixel_counts import PixelDecision


def resize_scores(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(n, h, w)`` to float32 ``(n, *size)`` on the CPU: bilinear, align_corners false, no antialias."""
    return F.interpolate(maps[None].float().cpu(), size=size, mode="bilinear", align_corners=False)[0]


def decide_pixels(
    scores: ClassScores, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, int]
) -> PixelDecision:
    """Decide what wins each pixel of ``size`` (height, width).

    Args:
        scores: One map per class of ``class_ids``, in its order.
        class_ids: Ids of the maps, in any order.
        decision: How background and absent classes compete.
        size: Of the label, in pixels.
    """
    value, best = _best_class(scores.classes, class_ids, decision, size)
    background_wins = np.zeros(size, np.int16)
    if decision.rule != "none":
        background = _resized(scores.background[None], size, decision)[0].numpy()
        for threshold in decision.thresholds:
            background_wins += _background_score(background, threshold, decision.rule) >= value
        if decision.rule != "fixed":
            background_wins[np.isnan(background)] = len(decision.thresholds)
    return PixelDecision(best, background_wins)


def _best_class(
    maps: Tensor, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Score and id of the best class of every pixel."""
    taken = {*class_ids, decision.background_id}
    known = all(0 <= id < decision.class_count for id in class_ids)
    if not known or len(class_ids) != len(maps) or len(taken) != len(maps) + 1:
        raise ValueError(f"class ids {class_ids} for {len(maps)} maps of {decision.class_count} classes")
    value, best = np.full(size, -np.inf, np.float32), np.full(size, NO_CLASS, np.int16)
    if class_ids:
        ids = np.array(class_ids, np.int16)
        order = np.argsort(ids)
        strongest, index = _resized(maps[order], size, decision).max(0)
        value, best = strongest.numpy(), ids[order][index.numpy()]
        best[value == -np.inf] = NO_CLASS
    absent = next((id for id in range(decision.class_count) if id not in taken), None)
    if decision.absent == "zero" and absent is not None:
        # All absent classes score 0, so only the first of them can win.
        wins = (value < 0) | ((value == 0) & (best > absent))
        value[wins], best[wins] = 0, absent
    return value, best


def _resized(maps: Tensor, size: tuple[int, int], decision: Decision) -> Tensor:
    resized = resize_scores(maps, size)
    return resized.where(resized.isfinite(), -torch.inf) if decision.undefined == "lowest" else resized


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
