"""95 % intervals of shares: of images that are hits, and of one sum over images in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .intervals import LEVEL, Estimate, Interval, estimate_jackknife, estimate_mean
from .metrics import Floats


def estimate_share(hits: NDArray[np.bool_]) -> Estimate:
    """Share of images that are hits, with Wilson's score interval, which has a width at 0 and at 1, too.

    Args:
        hits: ``(images,)``.
    """
    from scipy.stats import binomtest  # Imported late, for it takes as long as all else that a table needs.

    if len(hits) < 2:
        return estimate_mean(hits.astype(np.float64))
    test = binomtest(int(hits.sum()), len(hits), p=0.0)
    low, high = test.proportion_ci(LEVEL, method="wilson")
    return Estimate(float(hits.mean()), Interval(float(low), float(high)), float(test.pvalue))


def estimate_ratio(numerator: Floats, denominator: Floats) -> Estimate:
    """Share of two sums over images, with the jackknife's interval; NaN where there is nothing to divide by.

    Args:
        numerator: ``(images,)``, never more than ``denominator``.
        denominator: ``(images,)``.
    """
    above, below = float(numerator.sum()), float(denominator.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        without = (above - numerator) / (below - denominator)
        value = float(np.float64(above) / below)
    return estimate_jackknife(value, without, bounds=(0.0, 1.0))
