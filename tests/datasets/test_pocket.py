from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.datasets.pocket import GROUNDS, MIN_VISIBLE, OBJECTS, make_scene
from segscale.datasets.prompts.described import described_prompt
from segscale.errors import UserError
from segscale.registry import build


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), split=st.sampled_from(["train", "val"]), index=st.integers(0, 10**6))
def test_a_scene_follows_from_its_numbers_and_its_caption_tells_all(seed: int, split: str, index: int) -> None:
    scene, again = make_scene(seed, split, index), make_scene(seed, split, index)
    assert np.array_equal(scene.image, again.image)
    assert np.array_equal(scene.mask, again.mask)
    assert scene.caption == again.caption
    assert {word.name for word in described_prompt(scene.caption, (), (), False, True)[0].background} == {
        *scene.objects,
        scene.ground,
    }
    assert scene.ground in GROUNDS
    visible = {OBJECTS[i - 1] for i, n in enumerate(np.bincount(scene.mask.ravel())) if i and n >= MIN_VISIBLE}
    assert visible == set(scene.objects)


def test_splits_and_seeds_differ() -> None:
    scenes = [make_scene(0, "train", 0), make_scene(0, "val", 0), make_scene(1, "val", 0), make_scene(0, "val", 1)]
    assert len({scene.image.tobytes() for scene in scenes}) == 4


def test_every_object_is_in_the_first_hundred_scenes() -> None:
    assert {name for i in range(100) for name in make_scene(0, "val", i).objects} == set(OBJECTS)


def test_it_reads_no_folder_and_knows_its_splits() -> None:
    with pytest.raises(UserError, match="reads no folder"):
        build("dataset", "pocket", data_root="somewhere")
    with pytest.raises(UserError, match="no split 'test'; there are: train, calibration, val"):
        build("dataset", "pocket", split="test")


def test_captions_of_samples_list_the_words_of_the_scene_without_articles() -> None:
    dataset = build("dataset", "pocket", seed=3)
    for index in range(20):
        scene, sample = make_scene(3, "val", index), dataset[index]
        assert sample.caption == dataset.caption_of(sample.id) == ", ".join(scene.words)
        assert sample.caption == scene.caption.replace("a ", "")


def test_captions_of_a_file_replace_the_own_ones_and_are_told(tmp_path: Path) -> None:
    plain, (first, second, *_) = build("dataset", "pocket"), build("dataset", "pocket").ids
    (tmp_path / "captions.json").write_text(json.dumps({f"{first}.png": {"caption": "a gem"}, "other": "a ball"}))
    told = build("dataset", "pocket", captions=str(tmp_path / "captions.json"))
    assert (told[0].caption, told[1].caption) == ("a gem", None)
    assert (told.caption_of(first), told.caption_of(second)) == ("a gem", None)
    (tmp_path / "captions.json").write_text(json.dumps({first: "a cone", "other": "a ball"}))
    changed = build("dataset", "pocket", captions=str(tmp_path / "captions.json"))
    assert len({str(one.identity_options) for one in (plain, told, changed)}) == 3
