from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.errors import UserError
from segscale.registry import build


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A VOC folder with one made-up image, ``one``."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("one\n")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(root / "JPEGImages/one.jpg")
    save_mask(root, np.eye(30, 40, dtype=np.uint8) * 20)
    return root


def save_mask(root: Path, label: np.ndarray) -> None:
    mask = Image.fromarray(label, mode="P")
    mask.putpalette(np.random.default_rng(1).integers(0, 255, 768, np.uint8).tolist())
    mask.save(root / "SegmentationClass/one.png")


def read(root: Path) -> None:
    build("dataset", "voc", data_root=str(root.parents[1]))[0]


def test_ids_are_read_through_the_palette(made_up: Path) -> None:
    dataset = build("dataset", "voc", data_root=str(made_up.parents[1]))
    sample = dataset[0]
    assert dataset.ids == ("one",)
    assert sample.image.size == (40, 30)
    assert np.array_equal(sample.label, np.eye(30, 40) * 20)
    assert len(dataset.classes) == len(dataset.palette) == 21


def truncate(root: Path) -> None:
    file = root / "JPEGImages/one.jpg"
    file.write_bytes(file.read_bytes()[:200])


def save_rgb(root: Path) -> None:
    Image.new("RGB", (40, 30)).save(root / "SegmentationClass/one.png")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated jpeg": (truncate, r"one\.jpg is damaged"),
    "no image": (lambda root: (root / "JPEGImages/one.jpg").unlink(), r"there is no .*one\.jpg"),
    "empty mask file": (lambda root: (root / "SegmentationClass/one.png").write_bytes(b""), r"one\.png is damaged"),
    "wrong size": (lambda root: save_mask(root, np.zeros((29, 40), np.uint8)), r"is 40x29 but its image is 40x30"),
    "unknown id": (
        lambda root: save_mask(root, np.full((30, 40), 21, np.uint8)),
        r"has id 21, .* from 0 to 20",
    ),
    "colour mask": (save_rgb, r"one\.png is an RGB image"),
    "no folder": (lambda root: shutil.rmtree(root), r"there is no .*val\.txt; unpack VOC 2012"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_the_file(made_up: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(made_up)
    with pytest.raises(UserError, match=message) as caught:
        read(made_up)
    assert "\n" not in str(caught.value)


def test_an_unknown_split_lists_the_known_ones(made_up: Path) -> None:
    with pytest.raises(UserError, match="voc has no split 'test'; there are: train, val, trainval"):
        build("dataset", "voc", split="test", data_root=str(made_up.parents[1]))


def test_real_photographs_decode_as_mmseg_decodes_them(voc_mini: Path) -> None:
    from segscale.datasets.mmseg_import import import_mmseg

    dataset = build("dataset", "voc", data_root=str(voc_mini))
    load = import_mmseg("datasets.transforms").LoadAnnotations()
    assert dataset.ids == ("2007_004189", "2007_006449", "2008_002536", "2010_005582")
    root = voc_mini / "VOCdevkit/VOC2012/SegmentationClass"
    for index, name in enumerate(dataset.ids):
        loaded = load({"seg_map_path": str(root / f"{name}.png"), "seg_fields": [], "reduce_zero_label": False})
        assert np.array_equal(dataset[index].label, loaded["gt_seg_map"])
