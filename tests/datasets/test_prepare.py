from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy.io import savemat

from segscale.bench.data.prepare import prepare
from segscale.datasets.cityscapes import Cityscapes
from segscale.datasets.context import RAW_IDS, raw_table
from segscale.datasets.files import FileError
from segscale.datasets.prepare import MatFile, Panoptic, RunLengths
from segscale.errors import UserError
from segscale.files import replaced_bytes
from segscale.registry import build


def encode(inside: np.ndarray) -> str:
    """COCO's compressed run lengths of a bool mask, one number and one character at a time."""
    lengths, current = [0], False
    for pixel in inside.T.ravel().tolist():
        if pixel != current:
            lengths.append(0)
            current = pixel
        lengths[-1] += 1
    text = ""
    for place, length in enumerate(lengths):
        number = length - lengths[place - 2] if place > 2 else length
        more = True
        while more:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
    return text


MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=80), elements=st.booleans(), fill=st.booleans())


@given(MASKS, st.integers(1, 59))
def test_run_lengths_decode_what_was_encoded(inside: np.ndarray, value: int) -> None:
    height, width = inside.shape
    made = RunLengths(Path("source"), Path("target"), (height, width), ((encode(inside), value),)).label()
    assert np.array_equal(made, inside * np.uint8(value))


def test_long_runs_take_several_characters() -> None:
    inside = np.zeros((600, 700), bool)
    inside[:, 300:] = True
    inside[5, 5] = True
    made = RunLengths(Path("source"), Path("target"), inside.shape, ((encode(inside), 1),)).label()
    assert np.array_equal(made, inside)


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_a_code_of_another_size_is_damage(code: str) -> None:
    with pytest.raises(FileError, match="source is damaged"):
        RunLengths(Path("source"), Path("target"), (10**4, 10**6 + 1), ((code, 1),)).label()


def context_folder(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2010"
    (folder / "JPEGImages").mkdir(parents=True)
    for name in ("one", "two", "three"):
        Image.new("RGB", (9, 7), "green").save(folder / f"JPEGImages/{name}.jpg")
    return folder


def regions() -> list[np.ndarray]:
    """Overlapping masks; the last one drawn wins."""
    generator = np.random.default_rng(0)
    return [generator.random((7, 9)) < 0.4 for _ in range(6)]


def test_context_from_the_json_draws_segments_in_order(tmp_path: Path) -> None:
    folder = context_folder(tmp_path)
    ids = [RAW_IDS[58], RAW_IDS[0], 0, 1, RAW_IDS[20], 2]
    classes = [59, 1, 0, 0, 21, 1]
    annotations = [
        {"image_id": 7, "category_id": id, "segmentation": {"counts": encode(region), "size": [7, 9]}}
        for id, region in zip(ids, regions(), strict=True)
    ]
    images = [
        {"image_id": 7, "file_name": "one.jpg", "height": 7, "width": 9, "phase": "val"},
        {"image_id": 8, "file_name": "two.jpg", "height": 7, "width": 9, "phase": "train"},
        {"image_id": 9, "file_name": "three.jpg", "height": 7, "width": 9, "phase": "test"},
    ]
    (folder / "trainval_merged.json").write_text(json.dumps({"images": images, "annos_segmentation": annotations}))
    expected = np.zeros((7, 9), np.uint8)
    for label, region in zip(classes, regions(), strict=True):
        expected[region] = label
    assert prepare("context60", str(tmp_path), workers=1).made == 4
    val = build("dataset", "context60", data_root=str(tmp_path))
    train = build("dataset", "context60", split="train", data_root=str(tmp_path))
    assert (val.ids, train.ids) == (("one",), ("two",))
    assert np.array_equal(val[0].label, expected)
    assert not train[0].label.any()


def test_context_from_mat_files_splits_as_voc_does(tmp_path: Path) -> None:
    folder = context_folder(tmp_path)
    (folder / "trainval").mkdir()
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("two\nnever\n")
    (folder / "ImageSets/Main/val.txt").write_text("one\n")
    values = np.random.default_rng(0).integers(0, 460, (7, 9)).astype(np.uint16)
    values[0, :3] = RAW_IDS[0], RAW_IDS[58], 459
    for name in ("one", "two", "three"):
        savemat(folder / f"trainval/{name}.mat", {"LabelMap": values})
    assert prepare("context59", str(tmp_path), workers=1).made == 4
    dataset = build("dataset", "context60", data_root=str(tmp_path))
    assert dataset.ids == ("one",)
    ids = [RAW_IDS.index(value) + 1 if value in RAW_IDS else 0 for value in values.ravel().tolist()]
    assert dataset[0].label.ravel().tolist() == ids
    assert build("dataset", "context59", split="train", data_root=str(tmp_path)).ids == ("two",)


def test_a_damaged_mat_file_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    folder = context_folder(tmp_path)
    (folder / "trainval").mkdir()
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / f"ImageSets/Main/{split}.txt").write_text("one\ntwo\nthree\n")
    savemat(folder / "trainval/one.mat", {"LabelMap": np.full((7, 9), 460, np.uint16)})
    (folder / "trainval/two.mat").write_bytes(b"MATLAB")
    savemat(folder / "trainval/three.mat", {"Map": np.zeros((7, 9), np.uint8)})
    prepared = prepare("context60", str(tmp_path), workers=1)
    assert {Path(fault.partition(" ")[0]).name for fault in prepared.faults} == {"one.mat", "two.mat", "three.mat"}
    assert prepared.made == 2


def test_no_cut_of_a_mat_file_escapes(tmp_path: Path) -> None:
    path = tmp_path / "one.mat"
    savemat(path, {"LabelMap": np.random.default_rng(0).integers(0, 460, (7, 9)).astype(np.uint16)}, True)
    savemat(tmp_path / "packed.mat", {"LabelMap": np.zeros((70, 90), np.uint16)}, do_compression=True)
    for source in (path, tmp_path / "packed.mat"):
        content = source.read_bytes()
        for length in range(0, len(content) - 1, 5):
            source.write_bytes(content[:length])
            with pytest.raises(FileError, match=source.name):
                MatFile(source, tmp_path / "out.png", raw_table()).label()


@pytest.mark.parametrize("text", ["{", "{}", '{"images": [{}], "annos_segmentation": []}', "[]"])
def test_a_damaged_json_is_one_line(tmp_path: Path, text: str) -> None:
    (context_folder(tmp_path) / "trainval_merged.json").write_text(text)
    with pytest.raises(UserError, match=r"trainval_merged\.json is damaged"):
        prepare("context60", str(tmp_path), workers=1)


def test_a_segment_that_no_json_lists_is_damage(tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[1, 2] = 3, 1, 1
    Image.fromarray(colours).save(tmp_path / "map.png")
    number = 3 + 256 + 65536
    assert Panoptic(tmp_path / "map.png", tmp_path / "out.png", ((number, 9),)).label()[1, 2] == 9
    with pytest.raises(FileError, match=f"map.png has segment {number}"):
        Panoptic(tmp_path / "map.png", tmp_path / "out.png", ((5, 1), (10**7, 2))).label()


FRAMES = 40


@pytest.fixture
def gt_fine(tmp_path: Path) -> Path:
    """Made-up labelIds of ``FRAMES`` frames."""
    folder = tmp_path / "gtFine/val/town"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    for frame in range(FRAMES):
        values = generator.integers(0, 34, (12, 16)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"town_{frame:06d}_000019_gtFine_labelIds.png")
    return tmp_path


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file."""
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


KILLED = """
import os, signal, sys
from PIL import Image
from segscale.bench.data.prepare import prepare

save, count = Image.Image.save, 0

def dies(self, file, **options):
    global count
    count += 1
    save(self, file, **options)
    if count == 15:
        file.truncate(30)
        os.kill(os.getpid(), signal.SIGKILL)

Image.Image.save = dies
prepare("cityscapes", sys.argv[1], workers=1)
"""


def test_preparing_goes_on_after_a_kill_and_leaves_originals_alone(gt_fine: Path) -> None:
    originals = files(gt_fine)
    expected = {one.target: one.label() for one in Cityscapes.derivations(gt_fine)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(gt_fine)], stderr=subprocess.DEVNULL)
    assert killed.returncode == -9
    halfway = files(gt_fine)
    assert len(halfway) == FRAMES + 14 + 1
    (leftover,) = gt_fine.rglob(".*.tmp")
    os.utime(leftover, (0, 0))
    prepared = prepare("cityscapes", str(gt_fine), workers=2)
    assert (prepared.made, prepared.kept, prepared.faults) == (FRAMES - 14, 14, ())
    after = files(gt_fine)
    assert {name: after[name] for name in originals} == originals
    assert len(after) == 2 * FRAMES
    assert all(after[name] == halfway[name] for name in halfway if not name.endswith(".tmp"))
    for target, label in expected.items():
        assert np.array_equal(np.array(Image.open(target)), label)
    assert prepare("cityscapes", str(gt_fine), workers=2).made == 0
    assert files(gt_fine) == after


def test_files_that_another_process_writes_are_left_alone(gt_fine: Path) -> None:
    target = next(iter(Cityscapes.derivations(gt_fine))).target
    with replaced_bytes(target) as file:
        prepare("cityscapes", str(gt_fine), workers=1)
        file.write(b"of the other process")
    assert target.read_bytes() == b"of the other process"


def test_prepared_bytes_do_not_depend_on_the_number_of_workers(gt_fine: Path) -> None:
    contents = []
    for workers in (1, 2):
        assert prepare("cityscapes", str(gt_fine), workers).made == FRAMES
        contents.append({name: content for name, (content, _) in files(gt_fine).items()})
        for path in gt_fine.rglob("*labelTrainIds.png"):
            path.unlink()
    assert contents[0] == contents[1]


@pytest.fixture
def stuff_maps(tmp_path: Path) -> Path:
    """COCO with stuffthingmaps alone, and what mmsegmentation's converter leaves beside them."""
    for folder in ("images", "stuffthingmaps"):
        (tmp_path / folder / "val2017").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "images/val2017/one.jpg")
    Image.fromarray(np.full((4, 5), 16, np.uint8)).save(tmp_path / "stuffthingmaps/val2017/one.png")
    Image.fromarray(np.full((4, 5), 255, np.uint8)).save(tmp_path / "stuffthingmaps/val2017/one_labelTrainIds.png")
    return tmp_path


@pytest.mark.parametrize("name", ["coco-object", "coco-stuff-27"])
def test_masks_of_another_converter_are_no_sources(stuff_maps: Path, name: str) -> None:
    assert prepare(name, str(stuff_maps), workers=1).made == 1
    assert [path.name for path in stuff_maps.glob("coco-*/val2017/*")] == ["one.png"]


def test_masks_from_the_other_annotation_are_named_where_the_configured_one_is_not_there(stuff_maps: Path) -> None:
    command = f"segscale data prepare coco-object --data-root {stuff_maps}"
    with pytest.raises(UserError, match=rf"; unpack COCO's panoptic annotations, then: {command}; docs"):
        build("dataset", "coco-object", data_root=str(stuff_maps))
    prepare("coco-object", str(stuff_maps), workers=1)
    with pytest.raises(UserError, match=rf'then: {command}; or set labels = "stuffthingmaps" in a config'):
        build("dataset", "coco-object", data_root=str(stuff_maps))
    dataset = build("dataset", "coco-object", data_root=str(stuff_maps), labels="stuffthingmaps")
    assert dataset.classes[int(dataset[0].label.max())] == "cat"
    (stuff_maps / "annotations").mkdir()
    (stuff_maps / "annotations/panoptic_val2017.json").write_text('{"annotations": []}')
    with pytest.raises(UserError, match=f"; make it with: {command}; docs"):
        build("dataset", "coco-object", data_root=str(stuff_maps))


@pytest.mark.parametrize("text", ["{", "[]", '{"annotations": [{"file_name": "a.png"}]}'])
def test_a_damaged_panoptic_json_is_one_line(stuff_maps: Path, text: str) -> None:
    (stuff_maps / "annotations/panoptic_val2017").mkdir(parents=True)
    (stuff_maps / "annotations/panoptic_val2017.json").write_text(text)
    with pytest.raises(UserError, match=r"panoptic_val2017\.json is damaged"):
        prepare("coco-object", str(stuff_maps), workers=1)
