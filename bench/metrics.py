"""Metrics from areas. Everything is int64 until the last division, so images of any size add up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .protocol import Averaging

BOOTSTRAP_SAMPLES = 1000
BOOTSTRAP_SEED = 0
INTERVAL = (2.5, 97.5)
# In the denominator of ``every-class``, as GoCA publishes it.
EPSILON = 1e-8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageAreas:
    """Areas of many images at one threshold, int64 ``(images, classes)`` each."""

    intersection: NDArray[np.int64]
    prediction: NDArray[np.int64]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Shares in [0, 1]. miou with its 95 % bootstrap interval over images; class_iou has NaN for absent classes."""

    miou: float
    low: float
    high: float
    accuracy: float
    class_iou: Floats


def class_iou(intersection: Floats, prediction: Floats, label: Floats) -> Floats:
    """Intersection over union along the last axis, NaN where a class is neither predicted nor labelled."""
    union = prediction + label - intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, intersection / union, np.nan)


def mean_iou(intersection: Floats, prediction: Floats, label: Floats, averaging: Averaging) -> Floats:
    """Mean over classes (last axis).

    ``all``: every class that is predicted or labelled somewhere (mmsegmentation). ``in-ground-truth``: every
    labelled class (detectron2). ``every-class``: all of them, 0 where neither predicted nor labelled (GoCA).
    """
    if averaging == "every-class":
        return (intersection / (prediction + label - intersection + EPSILON)).mean(-1)
    iou = class_iou(intersection, prediction, label)
    if averaging == "in-ground-truth":
        iou = np.where(label > 0, iou, np.nan)
    counted = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        return np.where(counted, iou, 0).sum(-1) / counted.sum(-1)


def best_threshold(sweep: Sequence[ImageAreas], averaging: Averaging) -> int:
    """Index of the threshold whose mean IoU over all images is highest; the first of equals."""
    curve = [
        mean_iou(areas.intersection.sum(0), areas.prediction.sum(0), areas.label.sum(0), averaging) for areas in sweep
    ]
    return int(np.argmax(np.nan_to_num(curve, nan=-1.0)))


def score(areas: ImageAreas, averaging: Averaging) -> Score:
    """Metrics over all images; images are resampled with replacement for the interval."""
    images = len(areas.label)
    parts = [areas.intersection, areas.prediction, areas.label]
    intersection, prediction, label = (part.sum(0).astype(np.float64) for part in parts)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=BOOTSTRAP_SAMPLES).astype(np.float64)
    resampled = mean_iou(draws @ parts[0], draws @ parts[1], draws @ parts[2], averaging)
    low, high = np.percentile(resampled, INTERVAL)
    return Score(
        miou=float(mean_iou(intersection, prediction, label, averaging)),
        low=float(low),
        high=float(high),
        accuracy=float(intersection.sum() / label.sum()) if label.any() else float("nan"),
        class_iou=class_iou(intersection, prediction, label),
    )
