from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from segscale.bench.generation.fidelity import chance, fidelity, named_ground, named_objects
from segscale.datasets.pocket import GROUNDS, OBJECTS

NAMED = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
SHOWN = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)


def test_shares_are_those_of_sums_over_pictures() -> None:
    found = fidelity(NAMED, SHOWN)
    assert found.recall.value == pytest.approx(2 / 4)
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.f1.value == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def test_pictures_that_show_what_is_named_get_1_and_empty_ones_0() -> None:
    assert fidelity(NAMED, NAMED).f1.value == 1
    nothing = fidelity(NAMED, np.zeros_like(NAMED))
    assert nothing.recall.value == 0
    assert np.isnan(nothing.precision.value)
    assert nothing.precision.no_interval


def test_chance_is_the_mean_over_all_captions_of_other_pictures() -> None:
    shuffled = [order for order in permutations(range(3)) if all(place != other for place, other in enumerate(order))]
    expected = np.mean([fidelity(NAMED[[*order]], SHOWN).recall.value for order in shuffled])
    assert chance(NAMED, SHOWN).recall == pytest.approx(expected)
    expected = np.mean([fidelity(NAMED[[*order]], SHOWN).precision.value for order in shuffled])
    assert chance(NAMED, SHOWN).precision == pytest.approx(expected)


def test_captions_of_every_style_name_objects_and_ground() -> None:
    captions = ["a star, a ring, sand", "ring star Sand", "water", "a house"]
    named = named_objects(captions)
    words = [{OBJECTS[i] for i in np.flatnonzero(row)} for row in named]
    assert words == [{"star", "ring"}, {"star", "ring"}, set(), set()]
    assert [GROUNDS[i] if i >= 0 else None for i in named_ground(captions)] == ["sand", "sand", "water", None]
