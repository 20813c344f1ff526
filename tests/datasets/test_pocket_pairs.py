"""Scenes with two of a kind: what their expressions say holds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from segscale.datasets.pocket_pairs import PairScene, make_pair_scene

SCENES = [make_pair_scene(0, "val", index) for index in range(60)]


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def targets(scene: PairScene, first: str, second: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """What the opposite relations mean in a scene, where they hold."""
    by_word = {each.text.split()[1]: each.target for each in scene.expressions if len(each.text.split()) == 3}
    return (by_word[first], by_word[second]) if first in by_word else None


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ("left", "right", lambda a, b: middle(a)[0] < middle(b)[0]),
        ("upper", "lower", lambda a, b: middle(a)[1] < middle(b)[1]),
    ],
)
def test_relations_hold_for_the_visible_pixels(first: str, second: str, holds) -> None:
    pairs = [pair for scene in SCENES if (pair := targets(scene, first, second)) is not None]
    assert len(pairs) > 20
    assert all(holds(*pair) for pair in pairs)


def test_the_larger_of_a_pair_has_the_larger_extent() -> None:
    pairs = [pair for scene in SCENES if (pair := targets(scene, "larger", "smaller")) is not None]
    larger = sum(int(a.sum()) > int(b.sum()) for a, b in pairs)
    # One that the picture's edge or another object cuts may show fewer pixels.
    assert larger >= 0.8 * len(pairs) > 0


def test_targets_are_visible_apart_and_of_two_objects_at_least() -> None:
    for scene in SCENES:
        texts = [each.text for each in scene.expressions]
        assert len(texts) == len(set(texts)) >= 2
        masks = {each.target.tobytes(): each.target for each in scene.expressions}
        assert 2 <= len(masks) <= 3
        assert np.stack([*masks.values()]).sum(0).max() == 1
        assert min(int(mask.sum()) for mask in masks.values()) >= 20


def test_equal_arguments_give_equal_scenes() -> None:
    again = make_pair_scene(0, "val", 3)
    assert np.array_equal(again.image, SCENES[3].image)
    assert [each.text for each in again.expressions] == [each.text for each in SCENES[3].expressions]
    assert not np.array_equal(make_pair_scene(0, "train", 3).image, SCENES[3].image)
