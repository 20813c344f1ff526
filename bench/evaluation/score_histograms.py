"""How class scores are spread over pixels of the class and over others: what needs no threshold of the background.

Scores are put into bins, and pixels are counted in each, so that images of any number add up exactly. Average precision
follows from the sums, with all pixels of one bin as one tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import LeaveOneOut
from .metrics import Floats, class_mean

BINS = 128
MOST_SCORES = 32
"""Of an image. More would take as long as all other counting, and hundreds of kilobytes per image."""
TOGETHER = 256
"""Images that are left out in one pass."""
Histogram = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ScoreHistograms:
    """Pixels of one image by class and score."""

    class_ids: NDArray[np.int64]
    """Classes that have a score, ``(n,)``."""
    pixels: Histogram
    """``(n, 2, BINS)``: pixels of other classes and of the class, by rising score."""

    @classmethod
    def none(cls) -> ScoreHistograms:
        """Of an image whose scores are of no named class."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 2, BINS), np.int64))


def summed(histograms: Iterable[ScoreHistograms], classes: int) -> Histogram:
    """All images together, ``(classes, 2, BINS)``."""
    total = np.zeros((classes, 2, BINS), np.int64)
    for each in histograms:
        np.add.at(total, each.class_ids, each.pixels)
    return total


def mean_average_precision(images: Sequence[ScoreHistograms], label_area: NDArray[np.int64]) -> LeaveOneOut:
    """Mean of ``average_precision`` over the classes that have one, NaN where none has.

    Args:
        images: Of every image; no class is in one twice.
        label_area: Pixels of every class in every image, ``(images, classes)``.
    """
    total, area = summed(images, label_area.shape[1]), label_area.sum(0)
    precision = average_precision(total, area)
    without = np.tile(precision, (len(images), 1))
    for first in range(0, len(images), TOGETHER):
        part = images[first : first + TOGETHER]
        rows = np.repeat(np.arange(len(part)), [len(image.class_ids) for image in part])
        ids = np.concatenate([image.class_ids for image in part])
        label = label_area[first : first + TOGETHER]
        # Only classes that an image has change without it.
        changed = label > 0
        changed[rows, ids] = True
        classes = np.nonzero(changed)[1]
        rest = total[classes]
        rest[changed.cumsum().reshape(changed.shape)[rows, ids] - 1] -= np.concatenate([image.pixels for image in part])
        without[first : first + TOGETHER][changed] = average_precision(rest, area[classes] - label[changed])
    gone = np.where(np.isnan(without), precision, without)
    return LeaveOneOut(float(class_mean(precision)), class_mean(without), class_mean(gone))


def average_precision(histogram: Histogram, label_area: NDArray[np.int64]) -> Floats:
    """Average precision of every class: the sum over bins, from the highest, of precision times what recall grows by.

    Args:
        histogram: Of all images, ``(classes, 2, BINS)``.
        label_area: Pixels of every class in all images; those in images in which it has no score are never found.

    Returns:
        ``(classes,)``, NaN for a class that is not labelled or has no score anywhere.
    """
    others, own = (histogram[:, side, ::-1] for side in (0, 1))
    found, taken = own.cumsum(1), (own + others).cumsum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(taken > 0, found / taken, 0.0)
        result = (precision * own).sum(1) / label_area
    return np.where((label_area > 0) & (taken[:, -1] > 0), result, np.nan)
