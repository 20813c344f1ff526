"""95 % intervals that cover what they say: a jackknife over images, widened by its own estimates of bias.

docs/statistics.md explains the method and shows its measured coverage. A sample that cannot carry an interval gets
none, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from .metrics import Averaging, Floats, class_iou, entering_classes, mean_iou
from .pixel_counts import Counts, PixelCounts

LEVEL = 0.95
# A class labelled in fewer images is rare; too many rare classes bias the mIoU more than a sample can tell.
RARE_BELOW = 5
RARE_SHARE = 0.3
# Where a class's areas differ widely, bias falls slower with the number of images than the jackknife assumes.
BIAS_FACTOR = 2
AT_BOUND = "as low or as high as can be, whichever image is left out"
# Numbers held at once while images are left out one by one.
CHUNK = 1 << 16


@dataclass(frozen=True)
class LeaveOneOut:
    """A number, and the same without each image, ``(images,)``."""

    value: float
    without: Floats
    without_but_same_classes: Floats
    """Classes that only this image shows keep their IoU here instead of dropping out of the mean."""

    def less(self, other: LeaveOneOut) -> LeaveOneOut:
        """The difference of two numbers of the same images."""
        return LeaveOneOut(
            self.value - other.value,
            self.without - other.without,
            self.without_but_same_classes - other.without_but_same_classes,
        )


@dataclass(frozen=True)
class SampleNumbers:
    """What an mIoU is estimated from, where the counts that it follows from are not at hand."""

    numbers: LeaveOneOut
    """The mIoU, with all images and without each."""
    too_rare: str | None
    """Why the sample shows too few images of too many classes, if so."""


@dataclass(frozen=True)
class SampledCounts:
    """Pixel counts of a sample of images, and how their mean is taken."""

    counts: PixelCounts
    """Of images, ``(images, classes)``; or of a sweep whose best threshold is the number, where intersection and
    predicted area are ``(images, thresholds, classes)``."""
    averaging: Averaging
    occurs: NDArray[np.bool_] | None = None
    """``(classes,)``: the classes that the whole split labels somewhere, where that is known."""

    @cached_property
    def numbers(self) -> LeaveOneOut:
        """The mIoU, with all images and without each; of a sweep, the best threshold is chosen anew every time."""
        return _leave_one_out(self)

    @cached_property
    def too_rare(self) -> str | None:
        """Why the sample shows too few images of too many classes, if so."""
        return rare_classes(self.counts.label_area, self.occurs)


Sample = SampledCounts | SampleNumbers


@dataclass(frozen=True)
class Interval:
    """A 95 % interval. It always contains its estimate."""

    low: float
    high: float


@dataclass(frozen=True)
class NoInterval:
    """The sample cannot carry an interval."""

    reason: str
    """To be printed beside the number, such as "60 of 150 classes labelled in fewer than 5 images"."""


@dataclass(frozen=True)
class Estimate:
    """A number made of a sample of images, and how far it can be trusted."""

    value: float
    interval: Interval | NoInterval
    p_value: float | None = None
    """Two-sided, of the hypothesis that the true value is 0; below 0.05 where the interval excludes 0."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper end of the interval, NaN where there is none."""
        interval = self.interval
        return (interval.low, interval.high) if isinstance(interval, Interval) else (np.nan, np.nan)

    @property
    def no_interval(self) -> str | None:
        """Why there is no interval, None where there is one."""
        return self.interval.reason if isinstance(self.interval, NoInterval) else None


def estimate_miou(sample: Sample) -> Estimate:
    """MIoU of all images together; of a sweep, at its best threshold."""
    return estimate_class_mean(sample.numbers, sample.too_rare)


def estimate_class_mean(numbers: LeaveOneOut, too_rare: str | None) -> Estimate:
    """A mean over classes of shares that are made of sums over images.

    Args:
        numbers: The mean, with all images and without each.
        too_rare: Why there is no interval, as of ``rare_classes``.
    """
    return _estimate(numbers, too_rare, bounds=(0.0, 1.0))


def rare_classes(label: Counts, occurs: NDArray[np.bool_] | None = None) -> str | None:
    """Why a sample shows too few images of too many classes, if so.

    Args:
        label: What is labelled as each class, ``(images, classes)``.
        occurs: As of ``SampledCounts``.
    """
    labelled = (label > 0).sum(0)
    classes = np.ones(len(labelled), np.bool_) if occurs is None else occurs
    rare = np.count_nonzero(labelled[classes] < RARE_BELOW)
    total = np.count_nonzero(classes)
    if rare <= RARE_SHARE * total:
        return None
    return f"{rare} of {total} classes labelled in fewer than {RARE_BELOW} images"


def estimate_difference(sample: Sample, reference: Sample) -> Estimate:
    """MIoU of a run less that of a reference run on the same images, each with its own averaging.

    Raises:
        ValueError: The runs differ in their number of images. Rows must be the same images in the same order.
    """
    images, others = len(sample.numbers.without), len(reference.numbers.without)
    if images != others:
        raise ValueError(f"{images} and {others} images cannot be paired")
    difference = sample.numbers.less(reference.numbers)
    return _estimate(difference, sample.too_rare or reference.too_rare, bounds=(-1.0, 1.0))


def estimate_mean(values: Floats, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Mean of one value per image, with Student's interval.

    Args:
        values: ``(images,)``.
        bounds: What the mean cannot pass, (0, 1) for shares.
    """
    values = np.sort(values)
    value = float(values.mean()) if len(values) else float("nan")
    reason = _unusable(values)
    if reason is not None:
        return Estimate(value, NoInterval(reason))
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return _student(value, error, (0.0, 0.0), len(values), bounds)


def estimate_jackknife(value: float, without: Floats, bounds: tuple[float, float]) -> Estimate:
    """Any number of images, with the jackknife's interval, not widened by its estimates of bias.

    Args:
        value: With all images.
        without: ``(groups,)``: without each image, or without each of equally large groups of them.
        bounds: What the number cannot pass.
    """
    without = np.sort(without)
    reason = _unusable(without)
    if reason is not None:
        return Estimate(value, NoInterval(reason))
    groups = len(without)
    error = float(np.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum()))
    return _student(value, error, (0.0, 0.0), groups, bounds)


def _leave_one_out(sample: SampledCounts) -> LeaveOneOut:
    counts, averaging = _by_threshold(sample.counts), sample.averaging
    totals = _Counts(*(part.sum(0) for part in counts))
    iou = np.nan_to_num(class_iou(*totals.floats()))
    enters = totals.enters(averaging)
    without, same_classes = [], []
    for rows in counts.chunks():
        rest = _Counts(*(total - part for total, part in zip(totals, rows, strict=True)))
        value, left = mean_iou(*rest.floats(), averaging), rest.enters(averaging)
        gone = (iou * (enters & ~left)).sum(-1)
        without.append(_best(value))
        with np.errstate(invalid="ignore"):
            same_classes.append(_best((value * left.sum(-1) + gone) / enters.sum(-1)))
    value = _best(mean_iou(*totals.floats(), averaging))
    return LeaveOneOut(float(value), np.concatenate(without), np.concatenate(same_classes))


class _Counts(NamedTuple):
    """Intersection, predicted and label area, ``(..., thresholds, classes)``."""

    intersection: Counts
    predicted: Counts
    label: Counts

    def floats(self) -> tuple[Floats, Floats, Floats]:
        intersection, predicted, label = (part.astype(np.float64) for part in self)
        return intersection, predicted, label

    def enters(self, averaging: Averaging) -> NDArray[np.bool_]:
        """Whether a class enters the mean."""
        return entering_classes(self.predicted, self.label, averaging)

    def chunks(self) -> Iterator[_Counts]:
        """A few images at a time."""
        images, thresholds, classes = self.predicted.shape
        size = max(1, CHUNK // (thresholds * classes))
        for first in range(0, max(1, images), size):
            yield _Counts(*(part[first : first + size] for part in self))


def _by_threshold(counts: PixelCounts) -> _Counts:
    """All counts with an axis for thresholds, even if there is one."""
    intersection, predicted = counts.intersection, counts.predicted_area
    if intersection.ndim == 2:
        intersection, predicted = intersection[:, None], predicted[:, None]
    return _Counts(intersection, predicted, counts.label_area[:, None])


def _best(miou: Floats) -> Floats:
    """The best of the thresholds (last axis); one at which no class enters the mean is passed over."""
    return np.fmax.reduce(miou, -1)


def _estimate(numbers: LeaveOneOut, too_rare: str | None, bounds: tuple[float, float]) -> Estimate:
    """Student's interval of the jackknife, widened to either side by the larger of two estimates of bias."""
    # Sorting makes the sums, to the last bit, free of the order of images.
    without, same_classes = np.sort(numbers.without), np.sort(numbers.without_but_same_classes)
    reason = _unusable(without) or too_rare
    if reason is not None:
        return Estimate(numbers.value, NoInterval(reason))
    images = len(without)
    biases = [(images - 1) * (float(values.mean()) - numbers.value) for values in (without, same_classes)]
    error = float(np.sqrt((images - 1) / images * ((without - without.mean()) ** 2).sum()))
    margins = (BIAS_FACTOR * max(*biases, 0.0), BIAS_FACTOR * max(*(-bias for bias in biases), 0.0))
    return _student(numbers.value, error, margins, images, bounds)


def _student(
    value: float, error: float, margins: tuple[float, float], images: int, bounds: tuple[float, float]
) -> Estimate:
    """Interval and p-value from Student's t; ``margins`` are added below and above."""
    if error == 0 and value in bounds:
        return Estimate(value, NoInterval(AT_BOUND))
    half = float(stdtrit(images - 1, (1 + LEVEL) / 2)) * error
    low, high = value - half - margins[0], value + half + margins[1]
    interval = Interval(min(value, max(low, bounds[0])), max(value, min(high, bounds[1])))
    excess = max(0.0, value - margins[0] if value > 0 else -value - margins[1])
    if error == 0:
        return Estimate(value, interval, float(excess == 0))
    return Estimate(value, interval, float(2 * stdtr(images - 1, -excess / error)))


def _unusable(numbers: Floats) -> str | None:
    if len(numbers) < 2:
        return "fewer than 2 images"
    return None if np.isfinite(numbers).all() else "nothing to average without one of the images"
