from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from segscale.bench.evaluation.shares import estimate_ratio
from segscale.bench.generation.frechet import Gaussian, estimate_frechet, fit_gaussian, frechet_distance


def random_gaussian(seed: int, features: int = 5) -> Gaussian:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(features, features))
    return Gaussian(rng.normal(size=features), factor @ factor.T)


def test_the_distance_of_a_set_from_itself_is_0() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8))
    fitted = fit_gaussian(features)
    assert frechet_distance(fitted, fitted) == pytest.approx(0, abs=1e-9)
    # Fewer pictures than features: the covariance is singular.
    few = fit_gaussian(features[:4])
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_of_two_gaussians_in_one_dimension_it_is_the_closed_form() -> None:
    first, second = Gaussian(np.array([1.0]), np.array([[4.0]])), Gaussian(np.array([3.0]), np.array([[9.0]]))
    assert frechet_distance(first, second) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)


@given(st.integers(0, 1000))
def test_it_is_the_textbooks_formula_and_symmetric(seed: int) -> None:
    first, second = random_gaussian(seed), random_gaussian(seed + 5000)
    root = np.real(sqrtm(first.covariance @ second.covariance))
    spread = np.trace(first.covariance + second.covariance - 2 * root)
    expected = np.square(first.mean - second.mean).sum() + spread
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second), rel=1e-6, abs=1e-6)


def test_its_interval_covers_what_fresh_samples_of_the_same_size_give() -> None:
    reference = Gaussian(np.zeros(4), np.eye(4))
    rng = np.random.default_rng(0)
    draws = [0.5 + rng.normal(size=(200, 4)) for _ in range(60)]
    typical = np.mean([frechet_distance(fit_gaussian(draw), reference) for draw in draws])
    inside = 0
    for draw in draws:
        low, high = estimate_frechet(draw, reference).bounds
        inside += low <= typical <= high
    assert 51 <= inside <= 60


def test_a_ratio_is_that_of_sums_and_its_interval_that_of_the_mean_for_equal_denominators() -> None:
    hits, shown = np.array([1.0, 0, 2, 1]), np.array([2.0, 2, 2, 2])
    estimate = estimate_ratio(hits, shown)
    assert estimate.value == 0.5
    error = np.std(hits / 2, ddof=1) / 2
    low, high = estimate.bounds
    assert low == pytest.approx(max(0, 0.5 - 3.182446 * error))
    assert high == pytest.approx(min(1, 0.5 + 3.182446 * error))
    assert estimate_ratio(np.zeros(3), np.zeros(3)).no_interval
