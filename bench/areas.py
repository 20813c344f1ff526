"""From class scores and a label map to areas in pixels, for a sweep of thresholds at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..datasets.dataset import IGNORE_LABEL
from ..methods.method import ClassScores

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Areas:
    """Pixels of one image, int64. intersection, prediction: ``(thresholds, classes)``; label: ``(classes,)``."""

    intersection: Counts
    prediction: Counts
    label: Counts


def label_areas(prediction: NDArray[np.integer], label: NDArray[np.integer], classes: int) -> Areas:
    """Areas of a label map; pixels whose label is 255 do not count. One threshold."""
    counted = label != IGNORE_LABEL
    predicted, true = prediction[counted], label[counted]
    return Areas(
        np.bincount(predicted[predicted == true], minlength=classes)[None].astype(np.int64),
        np.bincount(predicted, minlength=classes)[None].astype(np.int64),
        np.bincount(true, minlength=classes).astype(np.int64),
    )


def winners(
    scores: ClassScores, thresholds: tuple[float, ...], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per pixel of ``size`` (height, width): the best class, and at how many thresholds background beats it.

    Background's score is ``t + background map``. Ties go to background, then to the first class; NaN beats
    everything, as in an argmax over [background, classes].
    """
    best = torch.full(size, -torch.inf)
    index = torch.zeros(size, dtype=torch.long)
    if len(scores.classes):
        best, index = resize_scores(scores.classes, size).max(0)
    background = resize_scores(scores.background[None], size)[0]
    lost = torch.zeros(size, dtype=torch.long)
    for threshold in thresholds:
        offset = background + threshold
        lost += (offset >= best) | offset.isnan()
    return index.numpy(), lost.numpy()


def resize_scores(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``(n, h, w)`` to float32 ``(n, *size)`` on the CPU: bilinear, align_corners false, no antialias."""
    return F.interpolate(maps[None].float().cpu(), size=size, mode="bilinear", align_corners=False)[0]


def label_map(
    scores: ClassScores, class_ids: tuple[int, ...], background: int, threshold: float, size: tuple[int, int]
) -> NDArray[np.int64]:
    """Class id of every pixel at one threshold, ``size`` (height, width)."""
    index, lost = winners(scores, (threshold,), size)
    ids = np.array(class_ids or (background,), np.int64)
    return np.where(lost > 0, background, ids[index])


def threshold_areas(
    scores: ClassScores,
    class_ids: tuple[int, ...],
    background: int,
    label: NDArray[np.integer],
    classes: int,
    thresholds: tuple[float, ...],
) -> Areas:
    """Areas at every threshold (ascending), in one pass over the pixels. Ignored pixels (255) do not count."""
    index, lost = winners(scores, thresholds, (label.shape[0], label.shape[1]))
    counted = label != IGNORE_LABEL
    true, lost = label[counted].astype(np.int64), lost[counted]
    best = np.array(class_ids or (background,), np.int64)[index[counted]]
    steps = len(thresholds) + 1

    def at_thresholds(chosen: NDArray[np.bool_] | slice) -> tuple[Counts, Counts]:
        """Pixels that keep their class, and that fall to background, per threshold and class."""
        counts = np.bincount(best[chosen] * steps + lost[chosen], minlength=classes * steps)
        counts = counts.reshape(classes, steps)
        # A pixel lost at n of the ascending thresholds is lost at the last n of them.
        fallen = counts[:, ::-1].cumsum(1)[:, :-1].T
        return counts.sum(1) - fallen, fallen

    kept, fallen = at_thresholds(slice(None))
    prediction = kept.copy()
    prediction[:, background] += fallen.sum(1)
    intersection, _ = at_thresholds(best == true)
    _, fallen_background = at_thresholds(true == background)
    intersection[:, background] += fallen_background.sum(1)
    return Areas(
        intersection.astype(np.int64),
        prediction.astype(np.int64),
        np.bincount(true, minlength=classes).astype(np.int64),
    )
