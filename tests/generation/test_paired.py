"""Measures of power compared on the same captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from segscale.bench.generation.frechet import fit_gaussian, frechet_distance
from segscale.bench.generation.judge_files import load_reference
from segscale.bench.generation.paired import RATIOS, difference_columns, paired_difference


def pictures(hits: list[int], shown: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"id": [str(i) for i in range(len(hits))], "named": 2, "shown": shown, "hits": hits})


def value(measure: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    estimate = paired_difference(measure, ours, theirs)
    assert estimate is not None
    return estimate.value


OURS, THEIRS = pictures([2, 1, 2, 0], [2, 2, 3, 1]), pictures([1, 1, 2, 0], [2, 2, 3, 1])


@pytest.mark.parametrize(
    ("measure", "expected"), [("f1", 2 * 5 / 16 - 2 * 4 / 16), ("recall", 5 / 8 - 4 / 8), ("precision", 5 / 8 - 4 / 8)]
)
def test_ratios_are_of_sums_and_captions_that_agree_cost_no_certainty(measure: str, expected: float) -> None:
    difference = paired_difference(measure, OURS, THEIRS)
    assert difference is not None
    assert difference.value == pytest.approx(expected)
    without = np.array([value(measure, OURS.drop(i), THEIRS.drop(i)) for i in range(4)])
    error = np.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert difference.bounds[1] - difference.value == pytest.approx(3.1824 * error, rel=1e-3)


def scored(measure: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = rng.normal(30, 5, 40) if measure == "clip_score" else rng.integers(0, 2, 40)
    return pd.DataFrame({"id": [str(i) for i in range(40)], measure: values})


@pytest.mark.parametrize("measure", ["ground", "clip_score"])
def test_the_interval_of_a_mean_is_that_of_the_paired_t_test(measure: str) -> None:
    ours, theirs = scored(measure, 0), scored(measure, 1)
    row = difference_columns(measure, ours, theirs)
    unit = 100 if measure == "ground" else 1
    expected: Any = ttest_rel(unit * ours[measure], unit * theirs[measure]).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(unit * (ours[measure] - theirs[measure]).mean())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))


def drawn(seed: int) -> pd.DataFrame:
    """Latents of 60 pictures, spread as real ones."""
    real = load_reference()
    features = np.random.default_rng(seed).multivariate_normal(real.mean, real.covariance, 60)
    columns = {f"feature_{place}": column for place, column in enumerate(features.T)}
    return pd.DataFrame({"id": [str(i) for i in range(60)], **columns})


def test_distances_of_pictures_that_move_together_are_told_apart() -> None:
    theirs = drawn(0)
    ours = theirs.copy()
    ours[[name for name in ours if name != "id"]] += 0.02
    difference = paired_difference("frechet", ours, theirs)
    assert difference is not None
    distances = [
        frechet_distance(fit_gaussian(rows.drop(columns="id").to_numpy()), load_reference()) for rows in (ours, theirs)
    ]
    assert difference.value == pytest.approx(distances[0] - distances[1])
    others = paired_difference("frechet", ours, drawn(1))
    assert others is not None
    width, unpaired = (each.bounds[1] - each.bounds[0] for each in (difference, others))
    assert width < unpaired / 2


@pytest.mark.parametrize("measure", [*RATIOS, "frechet"])
def test_equal_pictures_differ_by_nothing(measure: str) -> None:
    rows = drawn(0).assign(named=2, shown=2, hits=1, ground=1, clip_score=30.0)
    assert set(difference_columns(measure, rows, rows).values()) == {0}


def test_the_fid_has_no_pairs_and_captions_must_agree() -> None:
    assert paired_difference("fid", OURS, THEIRS) is None
    assert all(np.isnan(number) for number in difference_columns("fid", OURS, THEIRS).values())
    with pytest.raises(ValueError, match="other captions"):
        paired_difference("f1", OURS, THEIRS.iloc[::-1])
