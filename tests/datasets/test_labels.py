from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segscale.datasets.labels import LabelTable

MAPPINGS = st.dictionaries(st.integers(0, 255), st.one_of(st.integers(0, 200), st.just(255)), min_size=1)


@given(MAPPINGS, arrays(np.uint8, (5, 7)))
def test_the_two_views_of_a_label_agree(mapping: dict[int, int], values: np.ndarray) -> None:
    table = LabelTable.of(mapping)
    canonical, classes = table.decode(values), table.without_background().decode(values)
    for value, whole, dropped in zip(values.flat, canonical.flat, classes.flat, strict=True):
        assert whole == mapping.get(int(value), 255)
        assert dropped == (255 if whole in (0, 255) else whole - 1)


@given(MAPPINGS, arrays(np.uint8, (5, 7)))
def test_values_that_no_mapping_names_are_unknown(mapping: dict[int, int], values: np.ndarray) -> None:
    table = LabelTable.of(mapping)
    strange = sorted({int(value) for value in values.flat} - mapping.keys())
    assert table.unknown(values) == table.without_background().unknown(values) == strange


def test_known_values_are_told_in_ranges() -> None:
    assert LabelTable.consecutive(21).ranges == "from 0 to 20, 255"
    assert LabelTable.of({3: 0, 7: 1, 8: 2}).ranges == "3, from 7 to 8"
