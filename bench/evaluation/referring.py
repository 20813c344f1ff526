"""Metrics of referring segmentation, from the target's areas alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .intervals import Estimate, SampledCounts, estimate_mean, estimate_miou
from .metrics import Floats
from .pixel_counts import PixelCounts
from .shares import estimate_share

PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
SHARES = (0.0, 1.0)


@dataclass(frozen=True)
class ReferringScore:
    """How well what expressions mean is found, as shares in [0, 1] with intervals over samples."""

    ciou: Estimate
    """All intersections over all unions, also called oIoU; large targets decide."""
    giou: Estimate
    """Mean of the samples' IoU, where an empty mask that is rightly empty has 1."""
    precision: tuple[Estimate, ...]
    """Share of samples whose IoU is above each of ``PRECISIONS``."""


def referring_score(counts: PixelCounts, target: int) -> ReferringScore:
    """Score samples.

    Args:
        counts: Of samples at one threshold, ``(samples, classes)``.
        target: Place of the class that expressions mean.
    """
    column = slice(target, target + 1)
    own = counts.map(lambda part: part[:, column])
    ious = sample_ious(own)
    return ReferringScore(
        ciou=estimate_miou(SampledCounts(own, "all")),
        giou=estimate_mean(ious, SHARES),
        precision=tuple(estimate_share(ious > limit) for limit in PRECISIONS),
    )


def sample_ious(target: PixelCounts) -> Floats:
    """IoU of every sample; 1 where nothing is meant and nothing found."""
    intersection, predicted, label = (part[:, 0] for part in target.floats())
    union = predicted + label - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)
