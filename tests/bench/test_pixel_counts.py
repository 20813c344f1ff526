from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.bench.evaluation.decision import Decision
from segscale.bench.evaluation.pixel_counts import PixelCounts, PixelDecision, count_pixels

from .label_maps import count_label_map

IGNORED = st.sets(st.sampled_from([0, 2, 255]))


def holds_pixel_by_pixel(
    counts: PixelCounts, index: int, prediction: np.ndarray, label: np.ndarray, ignored_ids: set[int]
) -> None:
    pixels = [(p, t) for p, t in zip(prediction.ravel(), label.ravel(), strict=True) if t not in ignored_ids]
    for i in range(4):
        assert counts.intersection[index, i] == sum(p == t == i for p, t in pixels)
        assert counts.predicted_area[index, i] == sum(p == i for p, _ in pixels)
        assert counts.label_area[i] == sum(t == i for _, t in pixels)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), IGNORED)
def test_a_label_map_is_counted_pixel_by_pixel(seed: int, ignored_ids: set[int]) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (5, 7)).astype(np.uint8)
    # 4 and 255 are no class.
    prediction = rng.choice([0, 1, 2, 3, 4, 255], (5, 7))
    counts = count_label_map(prediction, label, 4, ignored_ids)
    holds_pixel_by_pixel(counts, 0, prediction, label, ignored_ids)
    assert counts.predicted_area.shape == (1, 4)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), IGNORED, st.integers(0, 3))
def test_a_sweep_of_background_is_counted_pixel_by_pixel(seed: int, ignored_ids: set[int], background: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, 3, 255], (5, 7)).astype(np.uint8)
    best = rng.choice([id for id in (0, 1, 2, 3, 255) if id != background], (5, 7)).astype(np.int16)
    decision = Decision(4, background, "offset", (-0.1, 0.0, 0.1), "excluded")
    won = PixelDecision(best, rng.integers(0, 4, (5, 7)).astype(np.int16))
    counts = count_pixels(won, decision, label, ignored_ids | {255})
    for index, prediction in enumerate(won.label_maps(decision)):
        holds_pixel_by_pixel(counts, index, prediction, label, ignored_ids | {255})
        background_wins = won.background_wins >= 3 - index
        assert np.array_equal(prediction, np.where(background_wins, background, best))


def test_counts_are_exact_where_single_precision_is_not() -> None:
    size = 2**24 + 4
    label = np.zeros((1, size), np.uint8)
    prediction = np.zeros((1, size), np.int64)
    prediction[0, 0] = 1
    counts = count_label_map(prediction, label, 2)
    assert counts.intersection[0].tolist() == [size - 1, 0]
    assert counts.predicted_area[0].tolist() == [size - 1, 1]
    assert int(np.float32(size - 1)) != size - 1
