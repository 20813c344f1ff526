"""From class scores to the class that wins each pixel, at every threshold of the background at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...methods.method import ClassScores

BackgroundRule = Literal["offset", "fixed", "max", "exact", "average", "none"]
AbsentRule = Literal["excluded", "zero"]

# In a label map: nothing competed for the pixel.
NO_CLASS = 255


@dataclass(frozen=True)
class Decision:
    """An argmax per pixel over channels: background first, then classes by ascending id.

    Ties go to the first channel. NaN beats every number, and the first NaN wins.

    classes: number of ids, background's included. background: its id, None with the rule ``none``.
    rule: background's score from its map ``b`` and the threshold ``t``: ``offset`` t + b, ``fixed`` t, ``max``
    max(b, t), ``exact`` b, ``average`` (t + b) / 2; with ``none`` only classes compete. (GoCA's evaluation code.)
    thresholds: ascending; a single one for ``exact`` and ``none``, which do not use it.
    absent: classes without a map are ``excluded``, or compete with score ``zero`` (published GoCA and Seg4Diff).
    """

    classes: int
    background: int | None
    rule: BackgroundRule
    thresholds: tuple[float, ...]
    absent: AbsentRule

    def __post_init__(self) -> None:
        if (self.background is None) != (self.rule == "none"):
            raise ValueError(f"background {self.background} does not go with the rule {self.rule!r}")
        check_thresholds(self.rule, self.thresholds)


def check_thresholds(rule: BackgroundRule, thresholds: tuple[float, ...]) -> None:
    """Raises ValueError unless thresholds ascend, and are one for a rule that does not use them."""
    if not thresholds or list(thresholds) != sorted(set(thresholds)):
        raise ValueError(f"thresholds {thresholds} do not ascend")
    if rule in ("exact", "none") and len(thresholds) > 1:
        raise ValueError(f"the rule {rule!r} does not use a threshold, so there is one, not {len(thresholds)}")


@dataclass(frozen=True)
class Winners:
    """Both int16 ``(height, width)``.

    best: id of the best class, ``NO_CLASS`` where none competes. lost: at how many thresholds background beats it;
    no rule falls as the threshold rises, so these are the last ones.
    """

    best: NDArray[np.int16]
    lost: NDArray[np.int16]


def resize_scores(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """``(n, h, w)`` to float32 ``(n, *size)`` on the CPU: bilinear, align_corners false, no antialias."""
    return F.interpolate(maps[None].float().cpu(), size=size, mode="bilinear", align_corners=False)[0]


def winners(scores: ClassScores, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, int]) -> Winners:
    """Who wins each pixel of ``size`` (height, width). class_ids: of the maps of ``scores``, in any order."""
    value, best = _best_class(scores.classes, class_ids, decision, size)
    lost = np.zeros(size, np.int16)
    if decision.rule != "none":
        background = resize_scores(scores.background[None], size)[0].numpy()
        for threshold in decision.thresholds:
            lost += _background_score(background, threshold, decision.rule) >= value
        if decision.rule != "fixed":
            lost[np.isnan(background)] = len(decision.thresholds)
    return Winners(best, lost)


def label_maps(
    scores: ClassScores, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, int]
) -> NDArray[np.int16]:
    """Class id of every pixel, ``(thresholds, *size)``."""
    won = winners(scores, class_ids, decision, size)
    if decision.background is None:
        return won.best[None]
    steps = np.arange(len(decision.thresholds), 0, -1)[:, None, None]
    return np.where(won.lost >= steps, np.int16(decision.background), won.best)


def _best_class(
    maps: Tensor, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Score and id of the best class of every pixel."""
    taken = {*class_ids, decision.background}
    known = all(0 <= i < decision.classes for i in class_ids)
    if not known or len(class_ids) != len(maps) or len(taken) != len(maps) + 1:
        raise ValueError(f"class ids {class_ids} for {len(maps)} maps of {decision.classes} classes")
    value, best = np.full(size, -np.inf, np.float32), np.full(size, NO_CLASS, np.int16)
    if class_ids:
        ids = np.array(class_ids, np.int16)
        order = np.argsort(ids)
        strongest, index = resize_scores(maps[order], size).max(0)
        value, best = strongest.numpy(), ids[order][index.numpy()]
    absent = next((i for i in range(decision.classes) if i not in taken), None)
    if decision.absent == "zero" and absent is not None:
        # All absent classes score 0, so only the first of them can win.
        wins = (value < 0) | ((value == 0) & (best > absent))
        value[wins], best[wins] = 0, absent
    return value, best


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
