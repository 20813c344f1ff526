"""Real photographs with real annotations, decoded once by the datasets and once here from the raw files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.bench.data.check import check
from segscale.bench.data.prepare import prepare
from segscale.datasets.context import RAW_IDS, raw_table
from segscale.errors import UserError
from segscale.registry import build

from ..conftest import shared

Label = np.ndarray
CLASSES = {
    "voc": 21,
    "context59": 60,
    "context60": 60,
    "coco-object": 81,
    "coco-stuff-27": 28,
    "cityscapes": 20,
    "ade20k": 151,
}


def raw(path: Path) -> Label:
    return np.array(Image.open(path))


def dropped(canonical: Label) -> Label:
    """Ids without background, written without the tables under test."""
    out = np.full(canonical.shape, 255, np.uint8)
    kept = (canonical != 0) & (canonical != 255)
    out[kept] = canonical[kept] - 1
    return out


def assert_decodes(name: str, root: Path, expected: dict[str, Label], **choices: str) -> None:
    """Both views, the sizes, and a check without a fault."""
    whole = build("dataset", name, data_root=str(root), background=True, **choices)
    classes = build("dataset", name, data_root=str(root), background=False, **choices)
    assert set(whole.ids) == set(classes.ids) == set(expected)
    assert (whole.background, classes.background) == (0, None)
    assert whole.classes == ("background", *classes.classes)
    assert whole.palette[1:] == classes.palette
    assert len(whole.palette) == len(whole.classes) == len({*whole.classes}) == CLASSES[name]
    for index, id in enumerate(whole.ids):
        sample = whole[index]
        assert sample.id == id
        assert sample.image.size == expected[id].shape[::-1]
        assert sample.label.dtype == np.uint8
        assert np.array_equal(sample.label, expected[id])
        assert np.array_equal(classes[index].label, dropped(expected[id]))
    assert check(whole, workers=1).findings == ()


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_voc(split: str, voc_mini: Path) -> None:
    root = voc_mini / "VOCdevkit/VOC2012"
    ids = (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()
    expected = {id: raw(root / f"SegmentationClass/{id}.png") for id in ids}
    assert_decodes("voc", voc_mini, expected, split=split)


@pytest.mark.parametrize("name", ["context59", "context60"])
def test_context(name: str) -> None:
    root = shared("data", "context-mini")
    folder = root / "VOCdevkit/VOC2010"
    masks = sorted((folder / "SegmentationClassContext").glob("*.png"))
    assert_decodes(name, root, {path.stem: raw(path) for path in masks})
    listed = [line.split()[-1] for line in (folder / "classes60.txt").read_text().splitlines()]
    assert build("dataset", "context60", data_root=str(root)).classes == tuple(listed)


@pytest.mark.parametrize(("split", "folder"), [("train", "training"), ("val", "validation")])
def test_ade20k(split: str, folder: str) -> None:
    root = shared("data", "ade-mini")
    masks = root.glob(f"ADEChallengeData2016/annotations/{folder}/*.png")
    assert_decodes("ade20k", root, {path.stem: raw(path) for path in masks}, split=split)
    info = (root / "ADEChallengeData2016/objectInfo150.txt").read_text().splitlines()[1:]
    classes = build("dataset", "ade20k", data_root=str(root)).classes
    for name, line in zip(classes, info, strict=True):
        assert name in [word.strip() for word in line.split("\t")[-1].split(",")]


CAMVID = {
    "Sky": "sky",
    "Building": "building",
    "Pole": "pole",
    "Road": "road",
    "Pavement": "sidewalk",
    "Tree": "vegetation",
    "SignSymbol": "traffic sign",
    "Fence": "fence",
    "Car": "car",
    "Pedestrian": "person",
    "Bicyclist": "rider",
    "Unlabelled": "background",
}


@pytest.mark.parametrize("labels", ["labelIds", "labelTrainIds"])
def test_cityscapes_layout(labels: str) -> None:
    root = shared("data", "camvid-mini")
    layout = root / "cityscapes-layout"
    classes = build("dataset", "cityscapes", data_root=str(layout), background=True).classes
    own = [line.split()[1] for line in (root / "CamVid/classes.txt").read_text().splitlines()]
    expected = {}
    for line in (layout / "frames.txt").read_text().splitlines():
        frame, file = line.split()
        annotation = raw(root / "CamVid/testannot" / file)
        label = np.full(annotation.shape, 255, np.uint8)
        for value, name in enumerate(own):
            label[annotation == value] = classes.index(CAMVID[name])
        expected[f"{frame}_leftImg8bit"] = label
    assert_decodes("cityscapes", layout, expected, labels=labels)


@pytest.mark.parametrize("labels", ["labelIds", "labelTrainIds"])
def test_a_frame_of_cityscapes(labels: str) -> None:
    root = shared("data", "cityscapes-mini-256")
    folder = root / "gtFine/val/frankfurt"
    train_ids = raw(folder / "frankfurt_000000_000294_gtFine_labelTrainIds.png")
    expected = np.where(train_ids == 255, 0, train_ids + 1).astype(np.uint8)
    assert_decodes("cityscapes", root, {"frankfurt_000000_000294_leftImg8bit": expected}, labels=labels)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A copy, because preparing writes beside the originals."""
    root = tmp_path / "coco"
    shutil.copytree(shared("data", "coco-mini"), root, copy_function=shutil.copyfile)
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return root


def keep_images(root: Path, ids: set[str]) -> None:
    for path in root.glob("images/val2017/*.jpg"):
        if path.stem not in ids:
            path.unlink()


def object_names(root: Path) -> dict[int, str]:
    categories = json.loads((root / "annotations/panoptic_coco_categories.json").read_text())
    return {one["id"]: one["name"] for one in categories if one["isthing"]}


def test_coco_object_from_the_panoptic_annotation(coco: Path) -> None:
    prepare("coco-object", str(coco), workers=1)
    things = sorted(object_names(coco))
    expected: dict[str, Label] = {}
    for one in json.loads((coco / "annotations/panoptic_val2017.json").read_text())["annotations"]:
        colours = raw(coco / "annotations/panoptic_val2017" / one["file_name"]).astype(int)
        ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        label = np.zeros(ids.shape, np.uint8)
        for segment in one["segments_info"]:
            if segment["category_id"] in things:
                label[ids == segment["id"]] = things.index(segment["category_id"]) + 1
        expected[Path(one["file_name"]).stem] = label
    keep_images(coco, set(expected))
    assert_decodes("coco-object", coco, expected)
    assert build("dataset", "coco-object", data_root=str(coco)).classes[1:] == tuple(
        object_names(coco)[id] for id in things
    )


def test_a_prepared_mask_that_cannot_be_used_is_made_again(coco: Path) -> None:
    prepare("coco-object", str(coco), workers=1)
    dataset = build("dataset", "coco-object", data_root=str(coco))
    command = f"make it with: segscale data prepare coco-object --data-root {coco}$"
    with pytest.raises(UserError, match=rf"there is no .*000000000785\.png; {command}"):
        dataset[dataset.ids.index("000000000785")]
    (coco / "coco-object-panoptic/val2017/000000000139.png").write_bytes(b"")
    with pytest.raises(UserError, match=rf"000000000139\.png is damaged .*; remove it and {command}"):
        dataset[dataset.ids.index("000000000139")]


def fine_names(root: Path) -> list[str]:
    """By value of stuffthingmaps."""
    return [line.split(": ")[1] for line in (root / "labels.txt").read_text().splitlines()][1:]


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_object_from_stuffthingmaps(split: str, coco: Path) -> None:
    prepare("coco-object", str(coco), workers=1)
    classes = ["background", *(object_names(coco)[id] for id in sorted(object_names(coco)))]
    names, expected = fine_names(coco), {}
    for path in (coco / f"stuffthingmaps/{split}2017").glob("*.png"):
        values = raw(path)
        expected[path.stem] = np.zeros(values.shape, np.uint8)
        for value in set(values.flat) - {255}:
            if names[value] in classes:
                expected[path.stem][values == value] = classes.index(names[value])
    keep_images(coco, set(expected))
    assert_decodes("coco-object", coco, expected, split=split, labels="stuffthingmaps")


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_stuff_27(split: str, coco: Path, goca_parity: Path) -> None:
    prepare("coco-stuff-27", str(coco), workers=1)
    coarse = json.loads((goca_parity / "classes-coco-stuff.json").read_text())["fine_label_value_to_class"]
    expected = {}
    for path in (coco / f"stuffthingmaps/{split}2017").glob("*.png"):
        values = raw(path)
        expected[path.stem] = np.zeros(values.shape, np.uint8)
        for value in set(values.flat) - {255}:
            expected[path.stem][values == value] = coarse[str(value + 1)]
    keep_images(coco, set(expected))
    assert_decodes("coco-stuff-27", coco, expected, split=split)


def test_the_coarse_classes_hold_every_fine_one_as_published(goca_parity: Path) -> None:
    from segscale.datasets.coco_classes import STUFF_27

    published = json.loads((goca_parity / "classes-coco-stuff.json").read_text())["fine_label_value_to_class"]
    ours = {value + 1: index for index, values in enumerate(STUFF_27.values(), 1) for value in values}
    assert ours == {int(value): label for value, label in published.items() if label}
    assert sum(map(len, STUFF_27.values())) == 182


def test_the_object_categories_are_the_published_ones(goca_parity: Path) -> None:
    from segscale.datasets.coco_classes import OBJECT_CATEGORIES

    published = json.loads((goca_parity / "classes-coco-object.json").read_text())
    ids = {int(id): label for id, label in published["panoptic_category_id_to_class"].items() if label}
    assert {id: index for index, id in enumerate(OBJECT_CATEGORIES, 1)} == ids
    assert list(OBJECT_CATEGORIES.values()) == [words[0] for words in published["match_list"][1:]]


def test_the_59_of_459_context_classes_are_the_published_ones(goca_parity: Path) -> None:
    published = json.loads((goca_parity / "classes-context.json").read_text())
    names = [words[0] if words else "background" for words in published["match_list"]]
    by_id = {int(id): names[label] for id, label in published["raw_459_id_to_class"].items() if label}
    root = shared("data", "context-mini")
    classes = build("dataset", "context60", data_root=str(root)).classes
    assert {id: classes[raw_table()[id]] for id in RAW_IDS} == by_id
    assert np.count_nonzero(raw_table()) == len(by_id) == 59


def test_evaluated_label_ids_of_cityscapes_are_the_published_ones(goca_parity: Path) -> None:
    from segscale.datasets.cityscapes import label_id_table

    published = json.loads((goca_parity / "classes-city.json").read_text())["label_id_to_class"]
    table = label_id_table()
    for value, label in published.items():
        assert table.ids[int(value) % 256] == label
        assert table.known[int(value) % 256]


def test_captions_are_read_by_image_and_belong_to_the_choices(voc_mini: Path, tmp_path: Path) -> None:
    plain = build("dataset", "voc", data_root=str(voc_mini))
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({f"{plain.ids[1]}.jpg": {"caption": "a cat on a sofa"}, "elsewhere": "a dog"}))
    options = {"data_root": str(voc_mini), "captions": str(path)}
    told = build("dataset", "voc", **options)
    assert [sample.caption for sample in told] == [None, "a cat on a sofa", None, None]
    assert told.caption_of(told.ids[1]) == "a cat on a sofa"
    assert [sample.caption for sample in plain] == [None] * 4
    assert plain.identity_options == {"background": True, "captions": None, "present_from": "label"}
    assert told.identity_options["captions"] is not None
    path.write_text(json.dumps({plain.ids[1]: "a cat on a sofa", "elsewhere": "a cow"}))
    assert build("dataset", "voc", **options).identity_options == told.identity_options
    path.write_text(json.dumps({plain.ids[1]: "a cat"}))
    assert build("dataset", "voc", **options).identity_options != told.identity_options


XML = "<annotation><object><name>dog</name><part><name>head</name></part></object>{}</annotation>"


def test_present_classes_come_from_the_annotations(tmp_path: Path, voc_mini: Path) -> None:
    shutil.copytree(voc_mini, tmp_path / "voc", copy_function=shutil.copyfile)
    root = tmp_path / "voc/VOCdevkit/VOC2012"
    root.chmod(0o755)
    choices = {"data_root": str(tmp_path / "voc"), "present_from": "annotations"}
    with pytest.raises(UserError, match=r"there is no .*Annotations; unpack VOC 2012"):
        build("dataset", "voc", **choices)
    (root / "Annotations").mkdir()
    whole = build("dataset", "voc", **choices)
    path = root / f"Annotations/{whole.ids[0]}.xml"
    with pytest.raises(UserError, match=rf"there is no {path}"):
        whole[0]
    path.write_text(XML.format("<object><name>person</name></object><object><name>dog</name></object>"))
    classes = build("dataset", "voc", background=False, **choices)
    assert [whole.classes[id] for id in whole[0].present or ()] == ["dog", "person"]
    assert [classes.classes[id] for id in classes[0].present or ()] == ["dog", "person"]
    assert build("dataset", "voc", data_root=choices["data_root"])[0].present is None
    path.write_text(XML.format("<object><name>dragon</name></object>"))
    with pytest.raises(UserError, match="names 'dragon', which is no class of voc"):
        whole[0]
    path.write_text("<annotation>")
    with pytest.raises(UserError, match=r"\.xml is damaged"):
        whole[0]
