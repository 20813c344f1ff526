"""Metrics from pixel counts. Everything is int64 until the last division, so images of any size add up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .pixel_counts import Counts, PixelCounts

Averaging = Literal["all", "in-ground-truth", "every-class"]
Floats = NDArray[np.float64]

EPSILON = 1e-8
"""In the denominator of ``every-class``, as GoCA publishes it."""


@dataclass(frozen=True)
class Score:
    """Metrics over all images of a run, as shares in [0, 1]."""

    miou: float
    accuracy: float
    """Share of the scored pixels that are right."""
    class_iou: Floats
    """NaN for a class that is neither predicted nor labelled."""


def class_iou(intersection: Floats, predicted: Floats, label: Floats) -> Floats:
    """Intersection over union along the last axis, NaN where a class is neither predicted nor labelled."""
    union = predicted + label - intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, intersection / union, np.nan)


def mean_iou(intersection: Floats, predicted: Floats, label: Floats, averaging: Averaging) -> Floats:
    """Mean over classes (last axis).

    ``all``: every class that is predicted or labelled somewhere (mmsegmentation). ``in-ground-truth``: every
    labelled class (detectron2). ``every-class``: all of them, 0 where neither predicted nor labelled (GoCA).
    """
    if averaging == "every-class":
        return (intersection / (predicted + label - intersection + EPSILON)).mean(-1)
    iou = class_iou(intersection, predicted, label)
    if averaging == "in-ground-truth":
        iou = np.where(label > 0, iou, np.nan)
    return class_mean(iou)


def class_mean(values: Floats, counted: NDArray[np.bool_] | None = None) -> Floats:
    """Mean over the classes (last axis) that are counted, by default all that are not NaN; NaN where none is."""
    counted = ~np.isnan(values) if counted is None else counted
    with np.errstate(invalid="ignore"):
        return np.where(counted, values, 0).sum(-1) / counted.sum(-1)


def entering_classes(predicted: Counts, label: Counts, averaging: Averaging) -> NDArray[np.bool_]:
    """Whether each class enters the mean, in the shape of ``predicted``, to which ``label`` is broadcast."""
    if averaging == "every-class":
        return np.ones(predicted.shape, np.bool_)
    labelled = np.broadcast_to(label > 0, predicted.shape)
    return labelled if averaging == "in-ground-truth" else labelled | (predicted > 0)


def total_miou(counts: PixelCounts, averaging: Averaging) -> float:
    """Mean IoU over all images together."""
    intersection, predicted, label = counts.total().floats()
    return float(mean_iou(intersection, predicted, label, averaging))


def best_index(sweep: Sequence[PixelCounts], averaging: Averaging) -> int:
    """Index of the threshold whose mean IoU over all images is highest; the first of equals."""
    curve = [total_miou(counts, averaging) for counts in sweep]
    return int(np.argmax(np.nan_to_num(curve, nan=-1.0)))


def score_counts(counts: PixelCounts, averaging: Averaging) -> Score:
    """Metrics over all images of ``counts``."""
    intersection, predicted, label = counts.total().floats()
    return Score(
        miou=float(mean_iou(intersection, predicted, label, averaging)),
        accuracy=float(intersection.sum() / label.sum()) if label.any() else float("nan"),
        class_iou=class_iou(intersection, predicted, label),
    )
