"""From label maps or class scores to areas in pixels, for a sweep of thresholds in one pass."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.dataset import IGNORE_LABEL
from ...methods.method import ClassScores
from .decision import NO_CLASS, Decision, winners

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Areas:
    """Pixels of one image, int64. intersection, prediction: ``(thresholds, classes)``; label: ``(classes,)``."""

    intersection: Counts
    prediction: Counts
    label: Counts


def label_areas(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    classes: int,
    unscored: Collection[int] = (IGNORE_LABEL,),
) -> Areas:
    """Areas of a label map, one threshold. Pixels whose label is ``unscored`` do not count.

    A predicted id that is no class counts as a miss of the label and as no prediction.
    """
    counted = _counted(label, unscored)
    predicted, true = prediction[counted], label[counted]
    return Areas(
        np.bincount(predicted[predicted == true], minlength=classes)[None].astype(np.int64),
        np.bincount(predicted[predicted < classes], minlength=classes)[None].astype(np.int64),
        np.bincount(true, minlength=classes).astype(np.int64),
    )


def threshold_areas(
    scores: ClassScores,
    class_ids: tuple[int, ...],
    decision: Decision,
    label: NDArray[np.integer],
    unscored: Collection[int] = (IGNORE_LABEL,),
) -> Areas:
    """Areas at every threshold of ``decision``, in one pass over the pixels.

    class_ids: of the maps of ``scores``. Pixels whose label is ``unscored`` do not count.
    """
    won = winners(scores, class_ids, decision, (label.shape[0], label.shape[1]))
    counted = _counted(label, unscored)
    true, best, lost = label[counted], won.best[counted], won.lost[counted]
    ids, steps, classes = NO_CLASS + 1, len(decision.thresholds) + 1, decision.classes
    # One histogram over (best class, thresholds lost, best class is right, background would be right).
    bare = np.zeros(len(true), np.bool_) if decision.background is None else true == decision.background
    key = best.astype(np.int64)
    for part, values in ((lost, steps), (best == true, 2), (bare, 2)):
        key = key * values + part
    counts = np.bincount(key, minlength=ids * steps * 4).reshape(ids, steps, 2, 2)
    # A pixel lost at n of the ascending thresholds is lost at the last n of them.
    kept = counts.cumsum(1)[:, -2::-1]
    prediction = kept.sum((2, 3)).T[:, :classes].copy()
    intersection = kept[:, :, 1].sum(2).T[:, :classes].copy()
    if decision.background is not None:
        prediction[:, decision.background] = len(true) - kept.sum((0, 2, 3))
        intersection[:, decision.background] = np.count_nonzero(bare) - kept[..., 1].sum((0, 2))
    return Areas(
        intersection.astype(np.int64),
        prediction.astype(np.int64),
        np.bincount(true, minlength=classes).astype(np.int64),
    )


def _counted(label: NDArray[np.integer], unscored: Collection[int]) -> NDArray[np.bool_]:
    return ~np.isin(label, list(unscored))
