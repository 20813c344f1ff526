"""Boundary F-score: harmonic mean of the shares of boundary pixels, predicted and labelled, that have a match.

Unlike Csurka et al. 2013, who average over images, pixels are added up over all images first, as those of mIoU are, so
that a class needs no value in an image that does not show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .boundary_counts import BoundaryCounts
from .intervals import Estimate, LeaveOneOut, NoInterval, estimate_class_mean, rare_classes
from .metrics import Averaging, Floats, class_mean, entering_classes
from .shares import estimate_ratio

CLASS_IMAGES = 10
"""A class labelled in fewer images has no interval of its own: it would cover too seldom."""


@dataclass(frozen=True)
class ClassBoundary:
    """How well the boundary of one class is found, as shares in [0, 1]; NaN where there is nothing to divide by."""

    f_score: Estimate
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class BoundaryScore:
    """Boundary scores of all images together."""

    mean_f_score: Estimate
    """Over the classes that enter the mean by the run's averaging, with boundaries in place of areas."""
    classes: Sequence[ClassBoundary]
    """In the order of the counts."""


def f_scores(counts: BoundaryCounts) -> Floats:
    """F-score of every class: 0 where one side has no boundary, NaN where neither has."""
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = counts.predicted_matched / counts.predicted, counts.label_matched / counts.label
        both = 2 * precision * recall / (precision + recall)
    return np.where(counts.predicted + counts.label > 0, np.nan_to_num(both), np.nan)


def score_boundaries(counts: BoundaryCounts, averaging: Averaging, whole_split: bool) -> BoundaryScore:
    """Score boundaries, with intervals over images.

    Args:
        counts: Of images, ``(images, classes)``.
        averaging: Classes that enter the mean.
        whole_split: Whether these are all images, so that a class without a label does not occur.
    """
    occurs = np.any(counts.label > 0, axis=0) if whole_split else None
    mean = estimate_class_mean(_leave_one_out(counts, averaging), rare_classes(counts.label, occurs))
    # Images without a class say nothing of it: counted, they would lend its interval degrees of freedom.
    classes = [_class_boundary(counts.of_class(id)) for id in range(counts.label.shape[1])]
    return BoundaryScore(mean, tuple(classes))


def _class_boundary(counts: BoundaryCounts) -> ClassBoundary:
    few = np.count_nonzero(counts.label) < CLASS_IMAGES
    too_rare = f"class labelled in fewer than {CLASS_IMAGES} images" if few else None
    shares = (
        estimate_ratio(matched[:, 0].astype(np.float64), boundary[:, 0].astype(np.float64))
        for matched, boundary in (
            (counts.predicted_matched, counts.predicted),
            (counts.label_matched, counts.label),
        )
    )
    precision, recall = (share if too_rare is None else Estimate(share.value, NoInterval(too_rare)) for share in shares)
    return ClassBoundary(estimate_class_mean(_leave_one_out(counts, "all"), too_rare), precision, recall)


def _leave_one_out(counts: BoundaryCounts, averaging: Averaging) -> LeaveOneOut:
    totals, rest = counts.total(), counts.without_each()
    value, without = f_scores(totals), f_scores(rest)
    enters, left = (entering_classes(each.predicted, each.label, averaging) for each in (totals, rest))
    same_classes = np.where(left, without, value)
    return LeaveOneOut(
        float(_mean(value, enters)), _mean(without, left), _mean(same_classes, np.broadcast_to(enters, left.shape))
    )


def _mean(scores: Floats, enters: NDArray[np.bool_]) -> Floats:
    """Over the classes that enter it; one that is nowhere counts as 0."""
    return class_mean(np.nan_to_num(scores), enters)
