"""Exact pixel counts per class, for a sweep of thresholds in one pass over the pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.labels import IGNORE_LABEL
from .decision import NO_CLASS, Decision

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PixelCounts:
    """Pixels per class, int64, classes last.

    The first axis is the thresholds of one image, or the images at one threshold.
    """

    intersection: Counts
    predicted_area: Counts
    label_area: Counts
    """``(classes,)`` for the thresholds of one image, ``(images, classes)`` for images."""

    def floats(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Intersection, predicted and label area, as metrics take them."""
        intersection, predicted, label = (part.astype(np.float64) for part in self.parts)
        return intersection, predicted, label

    def total(self) -> PixelCounts:
        """All images together, ``(classes,)`` each."""
        return self.map(lambda part: part.sum(0))

    def map(self, change: Callable[[Counts], Counts]) -> PixelCounts:
        """The counts with each of the three parts changed."""
        return PixelCounts(*(change(part) for part in self.parts))

    @property
    def parts(self) -> tuple[Counts, Counts, Counts]:
        """Intersection, predicted and label area."""
        return self.intersection, self.predicted_area, self.label_area


@dataclass(frozen=True)
class PixelDecision:
    """What wins each pixel at every threshold; both int16 ``(height, width)``."""

    best_class: NDArray[np.int16]
    """Id of the best class, ``NO_CLASS`` where none competes."""
    background_wins: NDArray[np.int16]
    """At how many thresholds background beats it. No rule falls as the threshold rises, so these are the last ones."""

    def label_maps(self, decision: Decision) -> NDArray[np.int16]:
        """Class id of every pixel, ``(thresholds, height, width)``."""
        if decision.background_id is None:
            return self.best_class[None]
        steps = np.arange(len(decision.thresholds), 0, -1)[:, None, None]
        return np.where(self.background_wins >= steps, np.int16(decision.background_id), self.best_class)


def count_pixels(
    won: PixelDecision,
    decision: Decision,
    label: NDArray[np.integer],
    ignored_ids: Collection[int] = (IGNORE_LABEL,),
) -> PixelCounts:
    """Count pixels at every threshold of ``decision``: ``(thresholds, classes)``.

    Pixels whose label is one of ``ignored_ids`` do not count.
    """
    counted = ~np.isin(label, list(ignored_ids))
    target, best, wins = label[counted], won.best_class[counted], won.background_wins[counted]
    ids, steps, classes = NO_CLASS + 1, len(decision.thresholds) + 1, decision.class_count
    # One histogram over (best class, thresholds won by background, best class is right, background would be right).
    bare = np.zeros(len(target), np.bool_) if decision.background_id is None else target == decision.background_id
    key = best.astype(np.int64)
    for values, part in ((steps, wins), (2, best == target), (2, bare)):
        key = key * values + part
    histogram = np.bincount(key, minlength=ids * steps * 4).reshape(ids, steps, 2, 2)
    # A pixel that background wins at n of the ascending thresholds is won at the last n of them.
    kept = histogram.cumsum(1)[:, -2::-1]
    predicted = kept.sum((2, 3)).T[:, :classes].copy()
    intersection = kept[:, :, 1].sum(2).T[:, :classes].copy()
    if decision.background_id is not None:
        predicted[:, decision.background_id] = len(target) - kept.sum((0, 2, 3))
        intersection[:, decision.background_id] = np.count_nonzero(bare) - kept[..., 1].sum((0, 2))
    label_area = np.bincount(target, minlength=classes).astype(np.int64)
    return PixelCounts(intersection.astype(np.int64), predicted.astype(np.int64), label_area)
