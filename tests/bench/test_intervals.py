"""Intervals: known answers, properties, and when there is none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segscale.bench.evaluation.comparisons import holm
from segscale.bench.evaluation.intervals import (
    Estimate,
    Interval,
    NoInterval,
    SampledCounts,
    estimate_difference,
    estimate_mean,
    estimate_miou,
)
from segscale.bench.evaluation.metrics import Averaging, mean_iou
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.evaluation.shares import estimate_ratio, estimate_share

AVERAGINGS: tuple[Averaging, ...] = ("all", "in-ground-truth", "every-class")
T_OF_TEN_IMAGES = 2.262157
any_averaging = st.sampled_from(AVERAGINGS)
seeds = st.integers(0, 2**32)


def random_areas(
    seed: int, averaging: Averaging, images: int = 9, thresholds: int = 0, classes: int = 6
) -> SampledCounts:
    """Every class is labelled in some images, and two of six mostly in few."""
    rng = np.random.default_rng(seed)
    shown = rng.random((images, classes)) < np.linspace(0.2, 1.2, classes)
    label = rng.integers(1, 100, (images, classes)) * shown
    shape = (images, thresholds, classes) if thresholds else (images, classes)
    of_threshold = label[:, None] if thresholds else label
    intersection = (of_threshold * rng.random(shape)).astype(np.int64)
    predicted = intersection + rng.integers(0, 60, shape) * (rng.random(shape) < 0.3)
    return SampledCounts(PixelCounts(intersection, predicted, label), averaging)


def reordered(areas: SampledCounts, images: np.ndarray) -> SampledCounts:
    counts = areas.counts
    rows = PixelCounts(counts.intersection[images], counts.predicted_area[images], counts.label_area[images])
    return replace(areas, counts=rows)


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.low, estimate.interval.high


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)[:, None]


# Known answers


@pytest.mark.parametrize("averaging", AVERAGINGS)
def test_where_miou_is_a_mean_the_interval_is_the_textbooks(averaging: Averaging) -> None:
    right = column(31, 47, 22, 90, 65, 58, 71)
    label = np.full_like(right, 100)
    shares = right[:, 0] / 100
    textbook = stats.t.interval(0.95, 6, shares.mean(), stats.sem(shares))
    assert bounds(estimate_miou(SampledCounts(PixelCounts(right, right, label), averaging))) == pytest.approx(textbook)
    estimate = estimate_mean(shares)
    assert bounds(estimate) == pytest.approx(textbook)
    assert estimate.p_value == pytest.approx(stats.ttest_1samp(shares, 0)[1])


def test_one_wrong_image_of_ten() -> None:
    # 90 / 110; without a right image 80 / 100, without the wrong one 1: bias 0.18 / 11, standard error 0.18.
    intersection, full = column(*[10] * 9, 0), column(*[10] * 10)
    estimate = estimate_miou(SampledCounts(PixelCounts(intersection, full, full), "all"))
    assert estimate.value == pytest.approx(9 / 11)
    assert bounds(estimate) == pytest.approx((9 / 11 - T_OF_TEN_IMAGES * 0.18 - 2 * 0.18 / 11, 1))
    assert estimate.p_value == pytest.approx(2 * stats.t.sf((9 / 11 - 2 * 0.18 / 11) / 0.18, 9))


def test_a_class_that_one_image_alone_shows() -> None:
    # Four classes of IoU 0.5 and one of 1, which only the first image shows: 0.6, and 0.5 without that image.
    intersection = np.full((10, 5), 5)
    intersection[:, 4] = column(10, *[0] * 9)[:, 0]
    label = 2 * intersection
    label[:, 4] = intersection[:, 4]
    estimate = estimate_miou(SampledCounts(PixelCounts(intersection, intersection, label), "in-ground-truth"))
    half = T_OF_TEN_IMAGES * 0.09
    assert estimate.value == pytest.approx(0.6)
    assert bounds(estimate) == pytest.approx((0.6 - half, 0.6 + half + 2 * 0.09))


def test_a_class_that_drops_out_does_not_hide_the_bias_of_the_others() -> None:
    # Four classes fill five images, and 6 of their pixels are seen in each of five others: 50 / 80. A fifth class, of
    # IoU 0, is in the first image alone: without it the mean rises to 4 / 7; with the same classes it falls to 16 / 35.
    intersection, predicted, label = (np.zeros((10, 5), np.int64) for _ in range(3))
    for part, others in ((intersection, 0), (predicted, 6), (label, 0)):
        part[:, :4] = np.repeat([10, others], 5)[:, None]
    label[0, 4] = 10
    estimate = estimate_miou(SampledCounts(PixelCounts(intersection, predicted, label), "in-ground-truth"))
    labelled, others = 16 / 35, 20 / 37
    without = np.array([4 / 7, *[labelled] * 4, *[others] * 5])
    half = T_OF_TEN_IMAGES * np.sqrt(0.9 * ((without - without.mean()) ** 2).sum())
    bias, bias_with_the_same_classes = 9 * (without.mean() - 0.5), 9 * ((labelled + others) / 2 - 0.5)
    assert bias > 0 > bias_with_the_same_classes
    assert estimate.value == pytest.approx(0.5)
    expected = 0.5 - half - 2 * bias, 0.5 + half - 2 * bias_with_the_same_classes
    assert bounds(estimate) == pytest.approx(expected, abs=1e-6)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.02, np.nan, 0.03, np.nan]) == pytest.approx([0.04, np.nan, 0.04, np.nan], nan_ok=True)
    assert len(holm([])) == 0


@pytest.mark.parametrize(
    ("hits", "low", "high"), [(0, 0, 0.161125), (1, 0.008881, 0.236131), (10, 0.299298, 0.700702), (20, 0.838875, 1)]
)
def test_a_share_of_images_has_wilsons_interval(hits: int, low: float, high: float) -> None:
    estimate = estimate_share(np.arange(20) < hits)
    assert estimate.value == hits / 20
    assert bounds(estimate) == pytest.approx((low, high), abs=1e-6)
    assert estimate.p_value == (hits == 0)


def slow_miou(
    areas: SampledCounts, images: list[int], keep: list[set[int]] | None = None
) -> tuple[float, list[set[int]]]:
    """Best of the thresholds by plain loops, and the classes that enter each mean; ``keep`` adds the whole's."""
    label = areas.counts.label_area
    sweep = areas.counts.intersection.ndim == 3
    values, classes = [], []
    for threshold in range(areas.counts.intersection.shape[1] if sweep else 1):
        at = (slice(None), threshold) if sweep else slice(None)
        intersection, predicted = areas.counts.intersection[at], areas.counts.predicted_area[at]
        iou: dict[int, float] = {}
        for name in range(label.shape[1]):
            right, seen, true = (
                int(part[images, name].sum()) for part in (intersection, predicted, areas.counts.label_area)
            )
            if true or (seen and areas.averaging == "all"):
                iou[name] = right / (seen + true - right)
            elif areas.averaging == "every-class":
                iou[name] = 0.0
            elif keep is not None and name in keep[threshold]:
                everywhere = [int(part[:, name].sum()) for part in (intersection, predicted, label)]
                iou[name] = everywhere[0] / (everywhere[1] + everywhere[2] - everywhere[0])
        values.append(float(np.mean([*iou.values()])))
        classes.append(set(iou))
    return max(values), classes


def slow_bounds(areas: SampledCounts, reference: SampledCounts | None) -> tuple[float, float, float]:
    """The formulas of docs/statistics.md, by plain loops."""
    images = range(len(areas.counts.label_area))
    value, without, same_classes = 0.0, np.zeros(len(images)), np.zeros(len(images))
    for run, sign in ((areas, 1), (reference, -1)):
        if run is None:
            continue
        whole, classes = slow_miou(run, [*images])
        value += sign * whole
        for left_out in images:
            others = [image for image in images if image != left_out]
            without[left_out] += sign * slow_miou(run, others)[0]
            same_classes[left_out] += sign * slow_miou(run, others, classes)[0]
    biases = [(len(images) - 1) * (np.mean(values) - value) for values in (without, same_classes)]
    half = stats.t.ppf(0.975, len(images) - 1) * np.sqrt((len(images) - 1) * np.var(without))
    return value, value - half - 2 * max(0, *biases), value + half - 2 * min(0, *biases)


@settings(max_examples=25, deadline=None)
@given(seeds, any_averaging, any_averaging, st.sampled_from([0, 3]), st.booleans())
def test_everything_equals_plain_loops(
    seed: int, averaging: Averaging, other: Averaging, thresholds: int, paired: bool
) -> None:
    areas = random_areas(seed, averaging, thresholds=thresholds)
    reference = random_areas(seed + 1, other)
    estimate = estimate_difference(areas, reference) if paired else estimate_miou(areas)
    value, low, high = slow_bounds(areas, reference if paired else None)
    assert estimate.value == pytest.approx(value, abs=1e-7)
    if isinstance(estimate.interval, Interval):
        least = -1 if paired else 0
        assert bounds(estimate) == pytest.approx((max(least, low), min(1, high)), abs=1e-6)


# Properties


@settings(max_examples=50, deadline=None)
@given(seeds, any_averaging, st.sampled_from([0, 3]), st.integers(5, 40))
def test_the_interval_contains_the_number_and_is_free_of_the_order_of_images_and_classes(
    seed: int, averaging: Averaging, thresholds: int, images: int
) -> None:
    areas = random_areas(seed, averaging, images, thresholds)
    reference = random_areas(seed + 1, averaging, images)
    rng = np.random.default_rng(seed)
    order, classes = rng.permutation(images), rng.permutation(6)
    counts = areas.counts
    permuted = replace(
        areas,
        counts=PixelCounts(
            counts.intersection[..., classes], counts.predicted_area[..., classes], counts.label_area[:, classes]
        ),
    )
    for estimate, shuffled in (
        (estimate_miou(areas), estimate_miou(reordered(areas, order))),
        (
            estimate_difference(areas, reference),
            estimate_difference(reordered(areas, order), reordered(reference, order)),
        ),
        (estimate_mean(areas.counts.label_area[:, 0] / 7), estimate_mean(areas.counts.label_area[order, 0] / 7)),
    ):
        assert shuffled == estimate
        if isinstance(estimate.interval, Interval):
            assert estimate.interval.low <= estimate.value <= estimate.interval.high
    again, estimate = estimate_miou(permuted), estimate_miou(areas)
    assert again.value == pytest.approx(estimate.value)
    assert type(again.interval) is type(estimate.interval)
    if isinstance(estimate.interval, Interval):
        assert bounds(again) == pytest.approx(bounds(estimate))


@settings(max_examples=20, deadline=None)
@given(seeds, any_averaging)
def test_runs_that_are_equal_differ_by_nothing(seed: int, averaging: Averaging) -> None:
    areas = random_areas(seed, averaging, images=100)
    assert estimate_difference(areas, areas) == Estimate(0.0, Interval(0.0, 0.0), 1.0)


@settings(max_examples=50, deadline=None)
@given(seeds, any_averaging, any_averaging)
def test_p_is_below_a_twentieth_where_the_interval_excludes_nought(
    seed: int, averaging: Averaging, other: Averaging
) -> None:
    areas, reference = random_areas(seed, averaging, 20), random_areas(seed + 1, other, 20)
    estimate, mirrored = estimate_difference(areas, reference), estimate_difference(reference, areas)
    if isinstance(estimate.interval, Interval):
        low, high = bounds(mirrored)
        assert bounds(estimate) == pytest.approx((-high, -low))
        assert estimate.p_value == pytest.approx(mirrored.p_value)
        assert estimate.p_value is not None
        assert (estimate.p_value < 0.05) == (not estimate.interval.low <= 0 <= estimate.interval.high)


def test_the_number_is_the_one_that_tables_print() -> None:
    for averaging, seed in product(AVERAGINGS, range(5)):
        areas = random_areas(seed, averaging)
        totals = (
            part.sum(0).astype(np.float64)
            for part in (areas.counts.intersection, areas.counts.predicted_area, areas.counts.label_area)
        )
        assert estimate_miou(areas).value == float(mean_iou(*totals, averaging))


# When there is none


def areas_with_rare_classes(rare: int, of: int = 10) -> SampledCounts:
    """``rare`` classes are labelled in four images, all others in five."""
    label = np.full((12, of), 10)
    label[5:] = 0
    label[4, :rare] = 0
    return SampledCounts(PixelCounts(label // 2, label, label), "in-ground-truth")


def test_no_interval_where_too_many_classes_are_rare() -> None:
    assert isinstance(estimate_miou(areas_with_rare_classes(3)).interval, Interval)
    refused = NoInterval("4 of 10 classes labelled in fewer than 5 images")
    assert estimate_miou(areas_with_rare_classes(4)).interval == refused
    usual = areas_with_rare_classes(0)
    assert isinstance(estimate_difference(areas_with_rare_classes(3), usual).interval, Interval)
    assert estimate_difference(areas_with_rare_classes(4), usual).interval == refused
    assert estimate_difference(usual, areas_with_rare_classes(4)).interval == refused


def test_classes_that_the_split_never_labels_are_not_rare() -> None:
    areas = areas_with_rare_classes(4)
    without_two = replace(areas, occurs=np.arange(10) >= 2)
    assert isinstance(estimate_miou(without_two).interval, Interval)
    only_six = replace(areas, occurs=np.arange(10) < 6)
    assert estimate_miou(only_six).interval == NoInterval("4 of 6 classes labelled in fewer than 5 images")


def test_two_images_of_ade_one_of_them_blank() -> None:
    label = np.zeros((2, 150), np.int64)
    label[0, :4] = 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = estimate_miou(SampledCounts(PixelCounts(label // 2, label, label), "all"))
    assert estimate == Estimate(1 / 3, NoInterval("nothing to average without one of the images"))


@pytest.mark.parametrize("averaging", AVERAGINGS)
def test_too_few_images(averaging: Averaging) -> None:
    refused = NoInterval("fewer than 2 images")
    for images in (0, 1):
        areas = random_areas(0, averaging, images)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert estimate_miou(areas).interval == refused
            assert estimate_difference(areas, areas).interval == refused
            assert estimate_mean(np.ones(images)).interval == refused
            assert estimate_share(np.ones(images, np.bool_)).interval == refused


@pytest.mark.parametrize("value", [0, 1])
def test_a_number_that_stays_at_an_end_of_its_range(value: int) -> None:
    label = np.full((20, 1), 10)
    right = value * label
    whole, of_images = SampledCounts(PixelCounts(right, right, label), "all"), np.full(20, float(value))
    for estimate in (
        estimate_miou(whole),
        estimate_mean(of_images, (0.0, 1.0)),
        estimate_ratio(of_images, np.ones(20)),
    ):
        assert estimate == Estimate(value, NoInterval("as low or as high as can be, whichever image is left out"))
    assert estimate_mean(of_images) == Estimate(value, Interval(value, value), float(value == 0))


def test_a_value_that_is_not_finite_and_images_that_do_not_pair() -> None:
    assert isinstance(estimate_mean(np.array([0.5, np.nan, 0.25])).interval, NoInterval)
    with pytest.raises(ValueError, match="9 and 8 images"):
        estimate_difference(random_areas(0, "all", 9), random_areas(0, "all", 8))
