"""Two runs on the same images: is the difference real, and where does it come from?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from ..evaluation.comparisons import holm
from ..evaluation.intervals import Estimate, SampledCounts, estimate_difference
from ..evaluation.metrics import Floats, mean_iou, score_counts
from ..evaluation.pixel_counts import PixelCounts
from .evaluated import EvaluatedRun

SIGNIFICANT = 0.05
SIZES = {"small": (0.0, 0.02), "medium": (0.02, 0.1), "large": (0.1, 1.0)}
"""Share of an image's labelled pixels that a class has, from and up to."""
CLASS_NUMBERS = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4 or more": (4, 255)}
"""Classes that an image shows, background not counted, from and including."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageOutcomes:
    """On how many images each run is better, by the mean IoU of the classes that the image shows."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class ClassDifference:
    """IoU of one class in both runs, NaN where it is neither predicted nor labelled."""

    name: str
    iou: float
    reference_iou: float


@dataclass(frozen=True)
class PartDifference:
    """The difference on a part of what is labelled."""

    name: str
    amount: int
    """Images, or areas of one class in one image."""
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """A run against a reference run on the images that both evaluated."""

    run: EvaluatedRun
    reference: EvaluatedRun
    images: int
    difference: Estimate
    """MIoU of the run less that of the reference."""
    corrected_p: float | None
    """By Holm's method over all comparisons made at once; None where there is no interval."""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is told from none."""
        return self.corrected_p is not None and self.corrected_p < SIGNIFICANT


def compare(pairs: Sequence[tuple[EvaluatedRun, EvaluatedRun]]) -> list[Comparison]:
    """Compare every pair, and correct for their number."""
    compared = [_compare(run, reference) for run, reference in pairs]
    tested = [c.difference.p_value for c in compared if c.difference.p_value is not None]
    corrected = iter(holm(tested))
    return [replace(c, corrected_p=None if c.difference.p_value is None else float(next(corrected))) for c in compared]


def not_worse_than_best(evaluated: Sequence[EvaluatedRun]) -> list[bool]:
    """For each run of one column of a table whether it is the best or not significantly worse than that.

    The best is sought among the runs of the most images. Where a difference carries no interval, only the best is bold.
    """
    most = max(run.summary.images for run in evaluated)
    whole = [index for index, run in enumerate(evaluated) if run.summary.images == most]
    best = max(whole, key=lambda index: np.nan_to_num(evaluated[index].score.miou, nan=-1.0))
    others = [index for index in range(len(evaluated)) if index != best]
    outcomes = dict.fromkeys(range(len(evaluated)), False) | {best: True}
    shared = [index for index in others if have_common_images(evaluated[index], evaluated[best])]
    comparisons = compare([(evaluated[index], evaluated[best]) for index in shared])
    for index, comparison in zip(shared, comparisons, strict=True):
        is_worse = comparison.is_significant and comparison.difference.value < 0
        outcomes[index] = comparison.corrected_p is not None and not is_worse
    return [outcomes[index] for index in range(len(evaluated))]


def image_outcomes(comparison: Comparison) -> ImageOutcomes:
    """Wins, ties and losses of the run over images that show a class."""
    run, reference = _both(comparison)
    scores, reference_scores = _image_miou(run), _image_miou(reference)
    shown = ~np.isnan(scores)
    better, worse = scores[shown] > reference_scores[shown], scores[shown] < reference_scores[shown]
    return ImageOutcomes(int(better.sum()), int((~better & ~worse).sum()), int(worse.sum()))


def class_differences(comparison: Comparison) -> list[ClassDifference]:
    """Both IoU of every class, the largest gain first."""
    run, reference = _both(comparison)
    ious = (score_counts(counts, "all").class_iou for counts in (run, reference))
    rows = [ClassDifference(*row) for row in zip(comparison.run.run.classes, *ious, strict=True)]
    return sorted(rows, key=lambda row: -np.nan_to_num(row.iou - row.reference_iou, nan=-np.inf))


def size_differences(comparison: Comparison) -> list[PartDifference]:
    """By the share of the image that a class has there; a prediction counts in images that show its class."""
    run, reference = _both(comparison)
    label, objects = run.label_area, _objects(comparison, run)
    shares = label / np.maximum(label.sum(1, keepdims=True), 1)
    parts: list[PartDifference] = []
    for name, (least, most) in SIZES.items():
        chosen = objects & (shares > least if least == 0 else shares >= least) & (shares < most if most < 1 else True)
        chosen_counts = (counts.map(partial(np.multiply, chosen)) for counts in (run, reference))
        parts += _part(name, int(chosen.sum()), chosen_counts, np.any(chosen, axis=0))
    return parts


def class_number_differences(comparison: Comparison) -> list[PartDifference]:
    """By the number of classes that an image shows."""
    run, reference = _both(comparison)
    shown = _objects(comparison, run).sum(1)
    parts: list[PartDifference] = []
    for name, (least, most) in CLASS_NUMBERS.items():
        rows = (shown >= least) & (shown <= most)
        chosen_counts = (counts.map(itemgetter(rows)) for counts in (run, reference))
        parts += _part(name, int(rows.sum()), chosen_counts, np.any(run.label_area[rows] > 0, axis=0))
    return parts


def seed_groups(comparisons: Sequence[Comparison]) -> Iterator[list[Comparison]]:
    """Comparisons that differ in nothing but the seed, where there are several seeds."""

    def key(comparison: Comparison) -> tuple[str, ...]:
        plans = comparison.run.plan, comparison.reference.plan
        return tuple(str(replace(plan, seed=0)) for plan in plans)

    for _, group in groupby(sorted(comparisons, key=key), key):
        same = [*group]
        if len({comparison.run.plan.seed for comparison in same}) > 1:
            yield same


def _compare(run: EvaluatedRun, reference: EvaluatedRun) -> Comparison:
    if not _have_same_images(run, reference):
        images = common_images(run, reference)
        run, reference = (_only(each, images) for each in (run, reference))
    difference = estimate_difference(run.sample, reference.sample)
    return Comparison(run, reference, run.summary.images, difference, corrected_p=None)


def have_common_images(run: EvaluatedRun, reference: EvaluatedRun) -> bool:
    """Whether any image was evaluated by both; ids are read only where the images are not the same."""
    return _have_same_images(run, reference) or bool(common_images(run, reference))


def _have_same_images(run: EvaluatedRun, reference: EvaluatedRun) -> bool:
    return run.summary.ids == reference.summary.ids


def common_images(run: EvaluatedRun, reference: EvaluatedRun) -> frozenset[str]:
    """Images that both runs evaluated."""
    return frozenset(run.counts.images).intersection(reference.counts.images)


def _only(run: EvaluatedRun, images: frozenset[str]) -> EvaluatedRun:
    """The run on ``images``; itself where these are all, so that its numbers are computed once for all comparisons."""
    return run if len(images) == run.summary.images else run.only(images)


def _both(comparison: Comparison) -> tuple[PixelCounts, PixelCounts]:
    run, reference = comparison.run, comparison.reference
    return run.counts.at_threshold(run.threshold), reference.counts.at_threshold(reference.threshold)


def image_miou(run: EvaluatedRun) -> Floats:
    """Mean IoU of the classes that each image shows, NaN for one that shows none."""
    return _image_miou(run.counts.at_threshold(run.threshold))


def _image_miou(counts: PixelCounts) -> Floats:
    return mean_iou(*counts.floats(), "in-ground-truth")


def _objects(comparison: Comparison, counts: PixelCounts) -> Mask:
    """Which classes each image shows, without background, ``(images, classes)``."""
    shown = counts.label_area > 0
    background = comparison.run.run.background_id
    if background is not None:
        shown[:, background] = False
    return shown


def _part(name: str, amount: int, counts: Iterable[PixelCounts], occurs: Mask) -> list[PartDifference]:
    """What differs on the chosen counts of the run and of the reference; nothing where none are chosen."""
    if not amount:
        return []
    run, reference = (SampledCounts(chosen, "in-ground-truth", occurs) for chosen in counts)
    return [PartDifference(name, amount, estimate_difference(run, reference))]
