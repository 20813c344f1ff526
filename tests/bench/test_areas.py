from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from segscale.bench.evaluation.pixel_counts import label_areas


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sets(st.sampled_from([0, 2, 255])))
def test_areas_of_a_label_map_count_pixel_by_pixel(seed: int, unscored: set[int]) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (5, 7)).astype(np.uint8)
    # 4 and 255 are no class.
    prediction = rng.choice([0, 1, 2, 3, 4, 255], (5, 7))
    areas = label_areas(prediction, label, 4, unscored)
    pixels = [(p, t) for p, t in zip(prediction.ravel(), label.ravel(), strict=True) if t not in unscored]
    for i in range(4):
        assert areas.intersection[0, i] == sum(p == t == i for p, t in pixels)
        assert areas.prediction[0, i] == sum(p == i for p, _ in pixels)
        assert areas.label[i] == sum(t == i for _, t in pixels)
    assert areas.prediction.shape == (1, 4)


def test_areas_are_exact_where_single_precision_is_not() -> None:
    size = 2**24 + 4
    label = np.zeros((1, size), np.uint8)
    prediction = np.zeros((1, size), np.int64)
    prediction[0, 0] = 1
    areas = label_areas(prediction, label, 2)
    assert areas.intersection[0].tolist() == [size - 1, 0]
    assert areas.prediction[0].tolist() == [size - 1, 1]
    assert int(np.float32(size - 1)) != size - 1
