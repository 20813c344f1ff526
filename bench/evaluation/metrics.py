"""Metrics from areas. Everything is int64 until the last division, so images of any size add up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..tasks.protocol import Averaging

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

    @property
    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return self.intersection, self.prediction, self.label


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
    curve = [total_miou(areas, averaging) for areas in sweep]
    return int(np.argmax(np.nan_to_num(curve, nan=-1.0)))


def score(areas: ImageAreas, averaging: Averaging) -> Score:
    """Metrics over all images; images are resampled with replacement for the interval."""
    intersection, prediction, label = (part.sum(0).astype(np.float64) for part in areas.parts)
    low, high = np.percentile(_resampled(areas, averaging), INTERVAL)
    return Score(
        miou=float(mean_iou(intersection, prediction, label, averaging)),
        low=float(low),
        high=float(high),
        accuracy=float(intersection.sum() / label.sum()) if label.any() else float("nan"),
        class_iou=class_iou(intersection, prediction, label),
    )


@dataclass(frozen=True)
class Difference:
    """mIoU of one run less that of another on the same images, with its 95 % interval from resampling both alike."""

    miou: float
    low: float
    high: float


def difference(one: ImageAreas, other: ImageAreas, averagings: tuple[Averaging, Averaging]) -> Difference:
    """``one`` less ``other``, whose rows are the same images in the same order."""
    totals = [total_miou(areas, averaging) for areas, averaging in zip((one, other), averagings, strict=True)]
    resampled = _resampled(one, averagings[0]) - _resampled(other, averagings[1])
    low, high = np.percentile(resampled, INTERVAL)
    return Difference(totals[0] - totals[1], float(low), float(high))


def _resampled(areas: ImageAreas, averaging: Averaging) -> Floats:
    """mIoU of every bootstrap draw; the same draws for the same number of images."""
    images = len(areas.label)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=BOOTSTRAP_SAMPLES).astype(np.float64)
    intersection, prediction, label = (draws @ part for part in areas.parts)
    return mean_iou(intersection, prediction, label, averaging)


def total_miou(areas: ImageAreas, averaging: Averaging) -> float:
    """Mean IoU over all images together."""
    intersection, prediction, label = (part.sum(0).astype(np.float64) for part in areas.parts)
    return float(mean_iou(intersection, prediction, label, averaging))
