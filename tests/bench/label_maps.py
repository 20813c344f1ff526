"""Short ways from scores and label maps to pixel counts, through the functions that every run uses."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from segscale.bench.evaluation.decision import Decision
from segscale.bench.evaluation.labelling import decide_pixels
from segscale.bench.evaluation.pixel_counts import PixelCounts, PixelDecision, count_pixels
from segscale.methods.method import ClassScores


def label_maps(
    scores: ClassScores, class_ids: tuple[int, ...], decision: Decision, size: tuple[int, ...]
) -> NDArray[np.int16]:
    """The label map at every threshold, ``(thresholds, height, width)``."""
    return decide_pixels(scores, class_ids, decision, (size[0], size[1])).label_maps(decision)


def count_scores(
    scores: ClassScores,
    class_ids: tuple[int, ...],
    decision: Decision,
    label: NDArray[np.integer],
    ignored_ids: Collection[int],
) -> PixelCounts:
    """Pixel counts at every threshold, ``(thresholds, classes)``."""
    won = decide_pixels(scores, class_ids, decision, (label.shape[0], label.shape[1]))
    return count_pixels(won, decision, label, ignored_ids)


def count_label_map(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    class_count: int,
    ignored_ids: Collection[int] = (255,),
) -> PixelCounts:
    """Pixel counts of a label map in which no class is background, ``(1, classes)``."""
    won = PixelDecision(prediction.astype(np.int16), np.zeros(prediction.shape, np.int16))
    return count_pixels(won, Decision(class_count, None, "none", (0.0,), "excluded"), label, ignored_ids)
