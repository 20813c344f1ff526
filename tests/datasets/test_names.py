from __future__ import annotations

import json
from pathlib import Path

import pytest

from segscale.datasets.mmseg_import import import_mmseg
from segscale.datasets.names import class_names
from segscale.errors import UserError

GOCA = {
    "voc": "voc",
    "context": "context",
    "cityscapes": "city",
    "ade20k": "ade",
    "coco-object": "coco-object",
    "coco-stuff-27": "coco-stuff",
}
SEG4DIFF = {
    "voc20": "voc20",
    "voc21": "voc21",
    "context59": "pc59",
    "cityscapes": "cityscapes",
    "ade20k": "ade150",
    "coco-object": "coco_object",
    "coco-stuff-27": "coco_stuff_27",
}
STANDARD_COUNTS = {
    "voc": 21,
    "context": 60,
    "cityscapes": 19,
    "ade20k": 150,
    "coco-object": 81,
    "coco-stuff-27": 27,
}
MMSEG = {
    "voc": "PascalVOCDataset",
    "context": "PascalContextDataset",
    "cityscapes": "CityscapesDataset",
    "ade20k": "ADE20KDataset",
}


@pytest.mark.parametrize("dataset", GOCA)
def test_goca_lists_are_the_published_ones(dataset: str, goca_parity: Path) -> None:
    published = json.loads((goca_parity / f"classes-{GOCA[dataset]}.json").read_text())["match_list"]
    assert [list(names) for names in class_names("goca", dataset)] == published


@pytest.mark.parametrize("dataset", SEG4DIFF)
def test_seg4diff_lists_are_the_published_ones(dataset: str, seg4diff_parity: Path) -> None:
    published = json.loads((seg4diff_parity / "classes" / f"{SEG4DIFF[dataset]}.json").read_text())
    assert class_names("seg4diff", dataset) == tuple((name,) for name in published)


def test_a_trailing_blank_is_kept() -> None:
    assert class_names("seg4diff", "ade20k")[7] == ("bed ",)


@pytest.mark.parametrize("dataset", STANDARD_COUNTS)
def test_standard_names_are_words_and_name_one_class_each(dataset: str) -> None:
    lists = class_names("standard", dataset)
    assert len(lists) == STANDARD_COUNTS[dataset]
    names = [name for synonyms in lists for name in synonyms]
    assert len(set(names)) == len(names)
    assert all(name == name.strip().lower() for name in names)
    assert all(lists[1:])
    assert bool(lists[0]) == (dataset in ("cityscapes", "ade20k", "coco-stuff-27"))


@pytest.mark.parametrize("dataset", MMSEG)
def test_standard_names_follow_mmsegmentation(dataset: str) -> None:
    """Every class keeps the library's own name, apart from blanks that it leaves out."""
    classes = getattr(import_mmseg("datasets"), MMSEG[dataset]).METAINFO["classes"]
    for name, synonyms in zip(classes, class_names("standard", dataset), strict=True):
        joined = {synonym.replace(" ", "") for synonym in synonyms}
        assert name == "background" or name.replace(" ", "") in joined


@pytest.mark.parametrize(("protocol", "dataset"), [("goca", "nowhere"), ("nobody", "voc"), ("goca", "../standard/voc")])
def test_an_unknown_list_says_which_there_are(protocol: str, dataset: str) -> None:
    with pytest.raises(UserError, match=r"there are: .*\b(voc|goca)\b"):
        class_names(protocol, dataset)
