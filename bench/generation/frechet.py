"""The Frechet distance between Gaussian fits of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..evaluation.intervals import Estimate, estimate_jackknife
from ..evaluation.metrics import Floats

GROUPS = 50
"""Groups of pictures that the jackknife leaves out."""
LEAST_PICTURES = 3
"""Pictures of which a covariance is left without one."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of features."""

    mean: Floats
    """``(features,)``."""
    covariance: Floats
    """``(features, features)``."""


def fit_gaussian(features: Floats) -> Gaussian:
    """Fit a normal distribution to features ``(pictures, features)`` of at least two pictures."""
    return Gaussian(features.mean(0), np.cov(features, rowvar=False, ddof=1))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Distance ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``.

    Source: Dowson and Landau, 1982; of Inception features it is the FID of Heusel et al., arXiv 1706.08500. The root's
    trace is that of the symmetric ``(C1^(1/2) C2 C1^(1/2))^(1/2)``, so no complex part has to be thrown away.
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second.covariance @ root), 0, None)).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * shared
    return float(max(0.0, np.square(first.mean - second.mean).sum() + spread))


def estimate_frechet(features: Floats, reference: Gaussian, groups: int = GROUPS) -> Estimate:
    """Estimate the distance of ``LEAST_PICTURES`` pictures or more from a fixed reference; delete-a-group jackknife.

    The distance grows as pictures get fewer, so only equal numbers of pictures compare; the interval is of the distance
    at this very number.
    """
    return estimate_jackknife(*without_groups(features, reference, groups), bounds=(0.0, np.inf))


def without_groups(features: Floats, reference: Gaussian, groups: int = GROUPS) -> tuple[float, Floats]:
    """The distance of all pictures, and without each group of them, ``(groups,)``; groups go by place alone."""
    places = np.arange(len(features)) % min(groups, len(features))
    without = [frechet_distance(fit_gaussian(features[places != group]), reference) for group in np.unique(places)]
    return frechet_distance(fit_gaussian(features), reference), np.array(without)
