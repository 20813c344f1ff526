"""Stored numbers and what they were made of: files that change in place never pass unnoticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from segscale.backbones.loading.pretrained import resolve_weights
from segscale.bench.commands.main import main
from segscale.bench.runs.store import RunStore, find_runs
from segscale.bench.runs.verify import SAMPLED_IMAGES, DataOnDisk, refuse_changed
from segscale.catalogue import PACKAGED
from segscale.datasets.dataset import Digests
from segscale.errors import UserError
from segscale.registry import build

from ..generation.test_lora_gain import a_lora
from .stored_runs import PLAN, new_run, record
from .test_data_check import make_voc, mask

IDS = [f"img_{number:05d}" for number in range(10)]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten images, and a run on it below ``results``."""
    root = tmp_path_factory.mktemp("computed")
    make_voc(root / "data", IDS)
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.chdir(root)
        main(run_command())
    return root


@pytest.fixture
def voc(computed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose run was given again there: all is named by relative paths."""
    shutil.copytree(computed, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    main(run_command())
    return tmp_path


def run_command(*options: str) -> list[str]:
    return ["run", "--dataset", "voc", "--data-root", "data", *options]


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, list[str]]:
    """Exit status and lines of ``segscale verify``."""
    capsys.readouterr()
    status: object = 0
    try:
        main(["verify", *arguments])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out.splitlines()


def label_of(root: Path, id: str) -> Path:
    return root / f"data/VOCdevkit/VOC2012/SegmentationClass/{id}.png"


def image_of(root: Path, id: str) -> Path:
    return root / f"data/VOCdevkit/VOC2012/JPEGImages/{id}.jpg"


def repaint(path: Path) -> None:
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_180)
    turned.putpixel((0, 0), (1, 2, 3))
    turned.save(path)


def test_what_is_unchanged_agrees(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store,) = find_runs(Path("results"))
    expected = [f"{store.folder}: 10 of 10 images agree"]
    for names in ([], [store.folder.name[:5]], [str(store.folder)], ["results/runs/pocket-sd15"], ["results"]):
        assert verified(capsys, *names) == (0, expected)


def test_every_change_is_named(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_of(voc, IDS[1]).write_bytes(mask(7))
    repaint(image_of(voc, IDS[2]))
    label_of(voc, IDS[3]).write_bytes(mask(7))
    repaint(image_of(voc, IDS[3]))
    label_of(voc, IDS[4]).unlink()
    status, lines = verified(capsys)
    assert status == 1
    assert lines[0].endswith(": 6 of 10 images agree")
    assert lines[1:4] == [
        f"  {IDS[1]}: the label changed",
        f"  {IDS[2]}: the image changed",
        f"  {IDS[3]}: the image and the label changed",
    ]
    assert lines[4].startswith(f"  {IDS[4]}: there is no ")
    assert len(lines) == 5


@pytest.mark.parametrize("more", [[], ["--limit", "10"], ["--skip-bad"]])
def test_a_run_on_changed_data_stops_in_one_line(
    more: list[str], voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a finished one, whose numbers would be shown again."""
    for id in IDS[::2]:
        label_of(voc, id).write_bytes(mask(7))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(run_command(*more))
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    (store,) = find_runs(Path("results"))
    (line,) = printed.err.splitlines()
    assert "of 8 stored images that were compared are not what they were (img_00000: the label changed); " in line
    assert f"segscale verify {store.folder}, and compute anew with another --results" in line
    main(run_command("--results", "elsewhere"))


def test_a_resumed_run_stops_before_it_computes(
    voc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(run_command("--limit", "3", "--results", "short"))
    repaint(image_of(voc, IDS[1]))
    monkeypatch.setattr("segscale.bench.runs.loop._Loop", lambda *_: pytest.fail("computed"))
    with pytest.raises(SystemExit):
        main(run_command("--results", "short"))
    assert f"1 of 3 stored images that were compared are not what they were ({IDS[1]}: " in capsys.readouterr().err


def test_the_images_compared_are_spread_over_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DataOnDisk(build("dataset", "pocket"))
    ids, asked = disk.dataset.ids, list[str]()
    store = RunStore(tmp_path / "run")
    store.start(new_run(PLAN), ids)
    store.append([record(id) for id in ids])

    def changes(stored: dict[str, Digests]) -> dict[str, str]:
        asked.extend(stored)
        return {}

    monkeypatch.setattr(disk, "changes", changes)
    refuse_changed(store, disk)
    assert asked == [ids[place * len(ids) // SAMPLED_IMAGES] for place in range(SAMPLED_IMAGES)]


def test_generated_scenes_have_digests_too(tmp_path: Path) -> None:
    dataset = build("dataset", "pocket")
    store = RunStore(tmp_path / "run")
    store.start(new_run(PLAN), dataset.ids)
    other = Digests(dataset[1].digests.image, "another")
    for index, digests in enumerate((dataset[0].digests, other)):
        store.append([replace(record(dataset.ids[index]), digests=digests)])
    with pytest.raises(UserError, match=rf"1 of 2 .* \({dataset.ids[1]}: the label changed\)"):
        refuse_changed(store, DataOnDisk(dataset))


def test_moved_data_is_found_where_it_is(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "data").rename(voc / "moved")
    status, (line,) = verified(capsys)
    assert status == 3
    assert f": 0 of 10 images agree, not compared: images (there is no {voc}/data/VOCdevkit/VOC2012/" in line
    assert verified(capsys, "--data-root", "moved")[0] == 0


def test_other_images_and_options_are_named(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_file = voc / "data/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    list_file.write_text("".join(f"{id}\n" for id in IDS[1:]))
    status, lines = verified(capsys)
    assert status == 1
    assert "9 of 10 images agree" in lines[0]
    assert lines[1:] == [
        "  voc val has other images than the run was asked about",
        f"  {IDS[0]}: the dataset has no such image",
    ]


def test_images_that_are_no_longer_stored_are_counted(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store,) = find_runs(Path("results"))
    for part in store.parts.iterdir():
        part.unlink()
    status, lines = verified(capsys)
    assert (status, lines[1:]) == (1, ["  10 of 10 images are not stored"])


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a twin's weights, and a run with it below ``results``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(resolve_weights(f"{PACKAGED}pocket-sd15"), tmp_path / "mine")
    main(["run", "--weights", "./mine", "--limit", "1"])
    return tmp_path / "mine"


def test_a_damaged_list_is_a_problem_and_not_absent_data(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = next((voc / "data").rglob("val.txt"))
    listed.write_bytes(b"\xff\xfe")
    status, lines = verified(capsys)
    assert status == 1
    assert "not compared: images" not in lines[0]


def rewrite(folder: Path) -> None:
    path = folder / "model_index.json"
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize(
    ("change", "status", "line"),
    [
        (lambda folder: None, 0, ""),
        (rewrite, 1, "  the weights are "),
        (shutil.rmtree, 3, ", not compared: weights ("),
    ],
)
def test_weights_are_compared(
    change: Callable[[Path], object],
    status: int,
    line: str,
    own_weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(own_weights)
    ended, lines = verified(capsys)
    assert ended == status
    assert line in "\n".join(lines)


def test_a_run_that_cannot_be_read_does_not_hide_the_others(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--limit", "1"])
    (damaged,) = (store for store in find_runs(Path("results")) if "voc" in store.folder.parts)
    (damaged.folder / "run.json").write_text("{}")
    status, lines = verified(capsys)
    assert status == 1
    assert any(line.endswith("1 of 1 images agree") for line in lines)
    assert any(line.startswith(f"{damaged.folder}: ") and "is not of format" in line for line in lines)


def test_an_unknown_run_is_one_line(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["verify", "0000"])
    assert end.value.code == 2
    assert "there is no run '0000'; name a folder of results/runs or the beginning" in capsys.readouterr().err


def test_a_lora_that_changed_or_went_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lora = Path(a_lora(tmp_path / "lora", 0.1))
    main(["run", "--backbone", "pocket-sd3", "--method", "vanilla", "--limit", "1", "--lora", "lora"])
    assert verified(capsys)[0] == 0
    a_lora(lora, 0.2)
    status, lines = verified(capsys)
    assert status == 1
    assert lines[1].startswith("  the LoRA is ")
    shutil.rmtree(lora)
    status, lines = verified(capsys)
    assert status == 3
    assert "not compared: weights (" in lines[0]
    assert "lora" in lines[0]


def test_a_part_of_a_split_is_said_to_be_one(
    voc: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.clear()
    main(run_command())
    (warning,) = (record.getMessage() for record in caplog.records if "whole split" in record.getMessage())
    said, _, command_line = warning.partition("; see what is missing: segscale ")
    assert said == "voc val has 10 images here, not the 1449 of the whole split"
    command = command_line.split()
    with pytest.raises(SystemExit):
        main(command)
    assert "voc val: 10 images, but not the 1449 of the official split" in capsys.readouterr().err


def test_sources_hold_from_everywhere(voc: Path) -> None:
    (store,) = find_runs(Path("results"))
    assert store.read().sources.data_root == str(voc / "data")
    (voc / "data").rename(voc / "moved")
    main(["run", "--dataset", "voc", "--data-root", "moved"])
    assert store.read().sources.data_root == str(voc / "moved")
