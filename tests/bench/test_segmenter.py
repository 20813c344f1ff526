from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from segscale.bench.segmenter import Segmenter, palette
from segscale.datasets.mmseg_import import import_mmseg
from segscale.datasets.pocket import OBJECTS, make_scene

import segscale
from segscale.errors import UserError


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return segscale.load("pocket-sd15", "vanilla")


def test_it_finds_the_objects_of_a_scene(segmenter: Segmenter) -> None:
    scene = make_scene(0, "val", 12)
    result = segmenter(Image.fromarray(scene.image), scene.objects, caption=scene.caption)
    for index, name in enumerate(scene.objects, 1):
        true, found = scene.mask == OBJECTS.index(name) + 1, result.labels == index
        assert (true & found).sum() / (true | found).sum() > 0.4, name
    assert sum(result.areas.values()) == result.labels.size
    assert result.scores.shape == (len(scene.objects), *result.labels.shape)


def test_the_same_picture_gives_the_same_labels_at_its_own_size(segmenter: Segmenter) -> None:
    image = Image.fromarray(make_scene(0, "val", 12).image).resize((90, 50)).convert("RGBA")
    first, again = (segmenter(image, ["star", "ring"]) for _ in range(2))
    assert first.labels.shape == (50, 90)
    assert np.array_equal(first.labels, again.labels)
    assert first.overlay().size == (90, 50)


def test_background_is_left_as_it_is_in_the_overlay(segmenter: Segmenter) -> None:
    image = Image.fromarray(make_scene(0, "val", 12).image)
    result = segmenter(image, ["star", "ring"])
    same = (np.asarray(result.overlay()) == np.asarray(image)).all(-1)
    assert same[result.labels == 0].all()
    assert not same[result.labels > 0].all()


@pytest.mark.parametrize(("classes", "message"), [([], "no class to prompt"), (["star", "star"], "named twice")])
def test_class_lists_that_make_no_sense(segmenter: Segmenter, classes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        segmenter(Image.new("RGB", (64, 64)), classes)


def test_the_palette_is_pascal_vocs() -> None:
    voc = import_mmseg("datasets").PascalVOCDataset.METAINFO["palette"]
    assert palette(21).tolist() == voc
