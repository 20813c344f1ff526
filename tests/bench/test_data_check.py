"""A made-up VOC folder of 2,000 small images with every kind of damage."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.bench.commands.main import main
from segscale.bench.data.check import Finding, Report, check
from segscale.catalogue import config_files
from segscale.datasets.folder import FolderDataset
from segscale.errors import UserError
from segscale.registry import build

IMAGES = 2000
SIZE = (12, 10)


def encoded(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def mask(value: int, size: tuple[int, int] = SIZE) -> bytes:
    image = Image.fromarray(np.full(size[::-1], value, np.uint8), mode="P")
    image.putpalette(bytes(range(256)) * 3)
    return encoded(image, "PNG")


PHOTO = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)), "JPEG")


def rename(path: Path) -> None:
    path.rename(path.with_name(path.name.upper()))


# Kind of finding and how it comes about, from image and mask of one id.
DAMAGE: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "missing mask": ("missing mask", lambda image, label: label.unlink()),
    "missing image": ("missing image", lambda image, label: image.unlink()),
    "wrong size": ("wrong size", lambda image, label: label.write_bytes(mask(3, (12, 9)))),
    "RGB mask": ("not a label map", lambda image, label: label.write_bytes(encoded(Image.new("RGB", SIZE), "PNG"))),
    "unknown id": ("unknown id", lambda image, label: label.write_bytes(mask(21))),
    "truncated JPEG": ("damaged", lambda image, label: image.write_bytes(PHOTO[: len(PHOTO) // 2])),
    "empty image": ("empty image", lambda image, label: image.write_bytes(b"")),
    "empty mask": ("empty mask", lambda image, label: label.write_bytes(b"")),
    "mask in another case": ("wrong case", lambda image, label: rename(label)),
    "image in another case": ("wrong case", lambda image, label: rename(image)),
    "unreadable image": ("damaged", lambda image, label: image.write_bytes(b"no picture")),
    "damaged mask": ("damaged", lambda image, label: label.write_bytes(mask(3)[: len(mask(3)) // 2])),
}


def make_voc(root: Path, ids: list[str]) -> None:
    folder = root / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for number, id in enumerate(ids):
        (folder / f"JPEGImages/{id}.jpg").write_bytes(PHOTO)
        (folder / f"SegmentationClass/{id}.png").write_bytes(mask(number % 21 if number % 22 else 255))
    (folder / "ImageSets/Segmentation/val.txt").write_text("".join(f"{id}\n" for id in ids))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder, and the kind of finding that each damaged id must give."""
    root = tmp_path_factory.mktemp("damaged")
    ids = [f"img_{number:05d}" for number in range(IMAGES)]
    make_voc(root, ids)
    folder = root / "VOCdevkit/VOC2012"
    expected: dict[str, str] = {}
    for place, (kind, damage) in enumerate(DAMAGE.values()):
        for id in (ids[17 + 150 * place], ids[18 + 150 * place]):
            damage(folder / f"JPEGImages/{id}.jpg", folder / f"SegmentationClass/{id}.png")
            expected[id] = kind
    listed = [*ids, ids[500]]
    (folder / "ImageSets/Segmentation/val.txt").write_text("".join(f"{id}\n" for id in listed) + "\n")
    expected[ids[500]] = "duplicate id"
    return root, expected


def report_of(root: Path, workers: int) -> Report:
    return check(build("dataset", "voc", data_root=str(root)), workers)


def test_one_pass_names_every_damage_and_nothing_else(damaged: tuple[Path, dict[str, str]]) -> None:
    root, expected = damaged
    report = report_of(root, workers=2)
    assert Counter((finding.id, finding.kind) for finding in report.findings) == Counter(expected.items())
    assert all(finding.id in finding.what for finding in report.findings)
    assert not report.good
    assert report.images == IMAGES + 1


def test_the_report_does_not_depend_on_the_number_of_workers(damaged: tuple[Path, dict[str, str]]) -> None:
    root, _ = damaged
    assert report_of(root, workers=1) == report_of(root, workers=2)


def test_reading_stops_at_what_the_check_names(damaged: tuple[Path, dict[str, str]]) -> None:
    """An image is unusable for a run exactly where the check says so."""
    root, expected = damaged
    dataset = build("dataset", "voc", data_root=str(root))
    said: dict[str, str] = {}
    for index, id in enumerate(dataset.ids):
        try:
            dataset[index]
        except UserError as error:
            said[id] = str(error)
    assert said.keys() == expected.keys()
    assert all(id in line and "\n" not in line for id, line in said.items())


def test_the_command_prints_a_line_per_fault_and_ends_with_status_2(
    damaged: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, expected = damaged
    with pytest.raises(SystemExit) as caught:
        main(["data", "check", "voc", "--data-root", str(root), "--workers", "2"])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == len(expected)
    for id, kind in expected.items():
        (line,) = (line for line in lines if id in line.replace("IMG", "img"))
        assert line.startswith(kind)
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith(
        "segscale: error: voc val: 2001 images, but not the 1449 of the official split; faults: 25 ("
    )
    assert "2 missing mask" in last
    assert "1 duplicate id" in last


def test_two_faults_of_one_image_are_both_named(tmp_path: Path) -> None:
    make_voc(tmp_path, ["one"])
    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "JPEGImages/one.jpg").write_bytes(PHOTO[:200])
    (folder / "SegmentationClass/one.png").write_bytes(mask(99))
    assert [finding.kind for finding in report_of(tmp_path, 1).findings] == ["damaged", "unknown id"]


def test_a_whole_split_is_good_and_the_summary_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_voc(tmp_path, ["one", "two"])
    dataset = build("dataset", "voc", data_root=str(tmp_path))
    monkeypatch.setattr(dataset, "expected_images", (2,))
    report = check(dataset, 1)
    assert report.good
    assert report.summary == "voc val: 2 images, as many as the 2 of the official split; faults: 0"


def test_fewer_images_than_the_official_split_are_not_good() -> None:
    assert not Report("voc val", 1448, (1449,), ()).good
    assert Report("voc val", 1449, (1449,), ()).good
    assert Report("context59 val", 5105, (5104, 5105), ()).good
    assert not Report("voc val", 1449, (1449,), (Finding("one", "damaged", "one is damaged"),)).good


def test_a_deliberate_part_of_a_split_is_good_where_no_file_is_faulty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_voc(tmp_path, ["one", "two"])
    arguments = ["data", "check", "voc", "--data-root", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(arguments)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "2 images, but not the 1449 of the official split; faults: 0; " in line
    assert line.endswith("for a part of the split on purpose: --subset")
    main([*arguments, "--subset"])
    assert capsys.readouterr().out == "voc val: 2 images; faults: 0\n"
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/two.jpg").unlink()
    with pytest.raises(SystemExit):
        main([*arguments, "--subset"])
    assert "voc val: 2 images; faults: 1 (1 missing image)" in capsys.readouterr().err


def test_masks_without_an_image_are_found_where_no_file_lists_the_split(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    for folder in ("images/validation", "annotations/validation"):
        (root / folder).mkdir(parents=True)
    for name in ("one", "two", "three"):
        (root / f"images/validation/{name}.jpg").write_bytes(PHOTO)
        (root / f"annotations/validation/{name}.png").write_bytes(mask(150))
    (root / "images/validation/two.jpg").unlink()
    rename(root / "images/validation/three.jpg")
    report = check(build("dataset", "ade20k", data_root=str(tmp_path)), 1)
    assert {(finding.id, finding.kind) for finding in report.findings} == {
        ("two", "missing image"),
        ("three", "wrong case"),
    }
    assert report.images == 1


def test_a_generated_dataset_is_checked_by_making_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", "pocket"])
    assert capsys.readouterr().out == "pocket val: 200 images; faults: 0\n"


@pytest.mark.parametrize("name", config_files("dataset"))
def test_missing_data_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name.startswith("pocket"):
        pytest.skip(f"{name} reads no folder")
    for task in ("check", "prepare"):
        arguments = ["data", task, name, "--data-root", str(tmp_path / "nowhere")]
        if task == "prepare" and name in ("voc", "ade20k", "folder"):
            main(arguments)
            assert capsys.readouterr().out == f"{name} reads its official files; nothing is prepared\n"
            continue
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"segscale: error: there is no {tmp_path}/nowhere/")


def test_the_prepare_command_says_what_it_wrote_and_what_it_could_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gtFine/val/town"
    folder.mkdir(parents=True)
    (folder / "a_gtFine_labelIds.png").write_bytes(mask(7))
    arguments = ["data", "prepare", "cityscapes", "--data-root", str(tmp_path)]
    main(arguments)
    assert capsys.readouterr().out.splitlines() == [f"wrote {folder}", "cityscapes: 1 files made, 0 were there"]
    main(arguments)
    assert capsys.readouterr().out == "cityscapes: 0 files made, 1 were there\n"
    (folder / "b_gtFine_labelIds.png").write_bytes(mask(77))
    with pytest.raises(SystemExit):
        main(arguments)
    printed = capsys.readouterr()
    assert "b_gtFine_labelIds.png has id 77" in printed.out
    assert printed.err.splitlines()[-1].startswith("segscale: error: cityscapes: 0 files made, 1 were there, 1 failed")
    assert np.array(Image.open(folder / "a_gtFine_labelTrainIds.png")).max() == 0


def test_the_calibration_split_is_evenly_spread_over_train_and_fixed(tmp_path: Path) -> None:
    ids = [f"img_{number:03d}" for number in range(40)]
    make_voc(tmp_path, ids)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    shutil.copy(lists / "val.txt", lists / "train.txt")
    (lists / "train.txt").write_text("".join(f"{id}\n" for id in reversed(ids[:30])))
    (lists / "val.txt").write_text("".join(f"{id}\n" for id in ids[30:]))

    def split(name: str, **choices: int) -> FolderDataset:
        return build("dataset", "voc", split=name, data_root=str(tmp_path), **choices)

    chosen = split("calibration", calibration_images=10).ids
    assert chosen == tuple(ids[0:30:3])
    assert not set(chosen) & set(split("val").ids)
    assert split("calibration").ids == tuple(ids[:30])
    assert check(split("calibration", calibration_images=10), 1).good
