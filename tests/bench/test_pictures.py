"""Masks of one's own pictures: what is named, drawn and written."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import segscale
from segscale.backbones.loading.options import LoadChoices, LoadOptions
from segscale.bench.commands.main import main
from segscale.bench.evaluation import labelling
from segscale.bench.evaluation.decision import Decision
from segscale.bench.evaluation.labelling import decide_pixels, resize_rows, resize_scores, strips
from segscale.bench.pictures.drawing import heated, tinted, with_legend
from segscale.bench.pictures.files import LONGEST_CLASS, write_example
from segscale.bench.pictures.inputs import PictureFile, picture_files, picture_of
from segscale.bench.pictures.segmentation import Segmentation
from segscale.bench.segmenter import Segmenter
from segscale.datasets.pocket import make_scene
from segscale.errors import UserError
from segscale.methods.method import ClassScores

SCENE = make_scene(0, "val", 12)
CLASSES = ["star", "ring"]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return segscale.load("pocket-sd15", "vanilla", device="cpu", dtype="float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a folder."""
    (tmp_path / "photos/sub").mkdir(parents=True)
    for name, index in (("a.png", 12), ("sub/b.png", 13)):
        Image.fromarray(make_scene(0, "val", index).image).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def segmentation(labels: list[list[int]], names: tuple[str, ...] = ("star", "ring")) -> Segmentation:
    ids = np.array(labels, np.uint8)
    scores = np.stack([(ids == id).astype(np.float32) for id in range(1, len(names) + 1)])
    return Segmentation(Image.new("RGB", ids.shape[::-1], (10, 200, 30)), names, ids, scores)


@pytest.mark.parametrize("size", [(64, 64), (401, 77), (31, 90)])
def test_rows_are_those_of_the_whole(size: tuple[int, int]) -> None:
    maps = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    whole = resize_scores(maps, size)
    parts = [resize_rows(maps, size, range(first, min(first + 7, size[0]))) for first in range(0, size[0], 7)]
    assert torch.allclose(torch.cat(parts, 1), whole, rtol=0, atol=3e-7)
    assert torch.equal(resize_rows(maps, size, range(size[0])), whole)


def test_a_large_picture_is_decided_in_strips_as_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strips((4000, 3000), 2) == [range(4000)]
    generator = torch.Generator().manual_seed(0)
    scores = ClassScores(torch.rand(2, 16, 16, generator=generator), torch.rand(16, 16, generator=generator))
    decision = Decision(3, 0, "offset", (0.0, 0.1), "lose", "as-is")
    whole = decide_pixels(scores, (1, 2), decision, (300, 200)).label_maps(decision)
    monkeypatch.setattr(labelling, "WHOLE_NUMBERS", 10_000)
    monkeypatch.setattr(labelling, "STRIP_NUMBERS", 7 * 200 * 3)
    rows = strips((300, 200), 3)
    assert (rows[0], rows[-1]) == (range(7), range(294, 300))
    parts = [decide_pixels(scores, (1, 2), decision, (300, 200), part).label_maps(decision) for part in rows]
    assert np.array_equal(np.concatenate(parts, 1), whole)


def test_scores_are_resized_when_they_are_asked_for(segmenter: Segmenter) -> None:
    result = segmenter(Image.fromarray(SCENE.image).resize((200, 100)), CLASSES)
    assert result.score_maps.shape[1:] != result.scores.shape[1:] == (100, 200)
    assert np.array_equal(result.scores, resize_scores(torch.from_numpy(result.score_maps), (100, 200)).numpy())


def test_a_path_an_array_and_a_picture_are_one(segmenter: Segmenter, tmp_path: Path) -> None:
    Image.fromarray(SCENE.image).save(tmp_path / "a.png")
    given = [Image.fromarray(SCENE.image), tmp_path / "a.png", str(tmp_path / "a.png"), SCENE.image, SCENE.image / 255]
    first, *others = segmenter(given, CLASSES)
    assert len(others) == 4
    for other in others:
        assert np.array_equal(other.labels, first.labels)


@pytest.mark.parametrize("values", [np.zeros((2, 3, 5), np.uint8), np.full((4, 4), 7.5), np.zeros((0, 4), np.uint8)])
def test_an_array_that_is_no_picture_is_one_line(values: np.ndarray) -> None:
    with pytest.raises(UserError, match="is no picture; give"):
        picture_of(values)


def test_a_higher_threshold_finds_less(segmenter: Segmenter) -> None:
    areas = []
    for threshold in (-0.2, 0.5):
        chosen = segscale.load("pocket-sd15", "goca-described", threshold=threshold)
        areas.append(chosen(SCENE.image, CLASSES).areas["background"])
    assert areas[0] < areas[1]
    with pytest.raises(UserError, match="seg4diff has an edge of its own, which no threshold moves"):
        segscale.load("pocket-sd3", "seg4diff", threshold=0.1)


def test_choices_of_loading_are_the_fields_of_load_options() -> None:
    assert LoadChoices.__annotations__.keys() == {field.name for field in fields(LoadOptions)}


def test_a_class_is_tinted_alike_whatever_is_below() -> None:
    picture = Image.fromarray(np.array([[[200, 0, 0], [0, 0, 200], [9, 8, 7]]], np.uint8))
    drawn = np.asarray(tinted(picture, np.array([[1, 1, 0]], np.uint8), ((0, 0, 0), (230, 159, 0))))
    assert drawn[0, 2].tolist() == [9, 8, 7]
    first, second = drawn[0, :2].astype(int)
    assert abs((first[0] - first[2]) - (second[0] - second[2])) <= 1
    wide = np.array([[300]], np.uint16)
    assert tinted(Image.new("RGB", (1, 1)), wide, ((0, 0, 0),) * 300 + ((255, 0, 0),)).getpixel((0, 0)) == (140, 0, 0)


def test_heat_is_smooth_over_strips_and_leaves_the_picture_where_there_is_none() -> None:
    picture = Image.new("RGB", (64, 600), (90, 90, 90))
    scores = np.linspace(0, 1, 12, dtype=np.float32)[:, None].repeat(3, 1)
    drawn = np.asarray(heated(picture, scores)).astype(int)
    assert drawn[0].tolist() == [[90, 90, 90]] * 64
    # The steps between rows of the picture are far below those between the rows of the map.
    assert np.abs(np.diff(drawn, axis=0)).max() <= 5
    assert (drawn[-1, 0] - [90, 90, 90]).max() > 80


def test_a_legend_stands_below_and_has_every_name() -> None:
    colours = [(f"name {number}", (number, 0, 255 - number)) for number in range(30)]
    picture = Image.new("RGB", (300, 100), "white")
    drawn = with_legend(picture, colours)
    assert drawn.width == 300
    assert drawn.height > 200
    found = {colour for _, colour in drawn.getcolors(1 << 20) or []}
    assert {colour for _, colour in colours} <= found
    assert with_legend(picture, []).height > 100


def test_a_segmentation_shows_itself() -> None:
    result = segmentation([[0, 1], [1, 1]], ("a <b>", "ring"))
    assert result.areas == {"background": 1, "a <b>": 3, "ring": 0}
    text = result._repr_html_()
    assert "<td>a &lt;b&gt;</td><td>75.0 %</td>" in text
    assert "data:image/png;base64," in text
    assert "a <b> 75.0 %" in repr(result)


def test_a_cutout_is_transparent_elsewhere() -> None:
    cut = np.asarray(segmentation([[0, 1, 2]]).cutout("ring"))
    assert cut.tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [10, 200, 30, 255]]]


def test_the_command_segments_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(folder), "--classes", "star,ring", "-o", str(out)]
    main([*command, "--write", "labels,cutouts,coco"])
    printed = capsys.readouterr().out
    assert "knows generated scenes only, not photographs; see: segscale predict --example" in caplog.text
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    endings = ("_labels.png", "_cutout1_star.png", "_cutout2_ring.png", ".json")
    assert names == {"coco.json", *(f"{stem}{ending}" for stem in ("a", "sub/b") for ending in endings)}
    assert {line.removeprefix(f"wrote {out}/") for line in printed.splitlines() if "wrote" in line} == names

    dataset = COCO(str(out / "coco.json"))
    assert {category["name"] for category in dataset.loadCats(dataset.getCatIds())} == {"star", "ring"}
    for image in dataset.loadImgs(dataset.getImgIds()):
        stem = {"a.png": "a", "sub/b.png": "sub/b"}[image["file_name"]]
        labels = np.asarray(Image.open(out / f"{stem}_labels.png"))
        for annotation in dataset.loadAnns(dataset.getAnnIds(image["id"])):
            mask = dataset.annToMask(annotation)
            assert np.array_equal(mask, labels == annotation["category_id"])
            assert annotation["area"] == mask.sum()

    with pytest.raises(SystemExit):
        main(["predict", str(folder / "a.png"), "--classes", "star", "-o", str(out), "--write", "coco"])
    assert "coco.json has other pictures, too; choose another --output" in capsys.readouterr().err


def test_a_picture_comes_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    Image.fromarray(SCENE.image).save(file, "PNG")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(file.getvalue())))
    main(["predict", "-", "--classes", "star", "-o", str(tmp_path)])
    assert json.loads((tmp_path / "stdin.json").read_text())["image"] is None
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"no picture")))
    with pytest.raises(SystemExit):
        main(["predict", "-", "--classes", "star", "-o", str(tmp_path)])
    assert "standard input is no picture" in capsys.readouterr().err


def test_a_picture_of_16_bits_is_the_same_however_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
    image.save(tmp_path / "deep.png")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO((tmp_path / "deep.png").read_bytes())))
    read = picture_of(tmp_path / "deep.png")
    assert np.asarray(read)[-1, -1].tolist() == [255, 255, 255]
    for given in (picture_of(image), PictureFile("stdin", None).read()):
        assert np.array_equal(given, read)
    with pytest.raises(UserError, match="the picture has 32-bit values"):
        picture_of(Image.new("F", (8, 8)))


@pytest.mark.parametrize("named", ["huge.png", "-"])
def test_a_picture_that_is_too_large_is_one_line(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("1", (40, 40)).save("huge.png")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path("huge.png").read_bytes())))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (file,) = picture_files([named], tmp_path / "out")
    with pytest.raises(UserError, match=r"is too large .*; make it smaller"):
        file.check() if file.path else file.read()


def test_the_example_needs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    main(["predict", "--example", "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "knows generated scenes only" not in caplog.text
    for name in SCENE.objects:
        assert f"\n{name} " in printed
    assert Image.open(tmp_path / "example_overlay.jpg").size[0] == Image.open(tmp_path / "example.png").size[0]


def test_the_example_replaces_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "example.png"
    for _ in range(2):
        write_example(own, Image.new("RGB", (2, 2), "red"))
    before = own.read_bytes()
    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit):
            main(["predict", "--example", "-o", str(tmp_path), *more])
        assert f"{own} is not the example; choose another --output" in capsys.readouterr().err
    assert own.read_bytes() == before
    assert [*tmp_path.iterdir()] == [own]


def test_a_folder_of_own_pictures_brings_its_classes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    root.mkdir()
    folder.rename(root / "images")
    (root / "classes.txt").write_text("star\nring\n")
    main(["predict", str(root), "-o", str(tmp_path / "out"), "--write", "labels"])
    summary = json.loads((tmp_path / "out/sub/b.json").read_text())
    assert [each["name"] for each in summary["classes"]] == ["background", "star", "ring"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no picture is named; name one, or: segscale predict --example"),
        (["{folder}/a.png"], "there is no class to look for"),
        (["{folder}/nowhere.png", "--classes", "star"], r"there is no .*nowhere\.png; check its name"),
        (["{folder}/empty", "--classes", "star"], "empty holds no picture"),
        (["{folder}/a.png", "{folder}/c/a.jpg", "--classes", "star"], "would write the same files"),
        (["--example", "{folder}/a.png"], "--example is a picture by itself"),
        (["{folder}/a.png", "--classes", "star", "--threshold", "2"], "'2' is not a number from -1 to 1"),
        (["{folder}/a.png", "--classes", "star", "--write", "overlay,gif"], "'gif' is not one of"),
        (["{folder}/bad.png", "--classes", "star"], r"bad\.png is damaged"),
        (["{folder}/c/coco.jpg", "--classes", "star", "--write", "coco"], "would be of one picture and of all; rename"),
    ],
)
def test_what_cannot_be_segmented_is_one_line(
    arguments: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "c"):
        (folder / name).mkdir()
    (folder / "c/a.jpg").write_bytes((folder / "a.png").read_bytes())
    (folder / "c/coco.jpg").write_bytes((folder / "a.png").read_bytes())
    (folder / "bad.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        main(["predict", *(argument.format(folder=folder) for argument in arguments), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_every_picture_of_a_folder_is_found_once(folder: Path) -> None:
    for hidden in (".c.png", ".thumbs/a.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes((folder / "a.png").read_bytes())
    for output in (folder / "sub/out", folder.parent, folder.parent / "photos2"):
        assert [file.stem for file in picture_files([str(folder)], output)] == ["a", "sub/b"]
    assert [file.stem for file in picture_files([str(folder / "a.png"), "-"], folder)] == ["a", "stdin"]


def test_names_are_cut_or_refused_before_a_picture_is_segmented(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(folder / "a.png"), "--classes", "star " * 60, "--write", "heat", "-o", str(out)]
    main(command)
    (heat,) = out.glob("a_heat1_*.jpg")
    assert len(heat.name.encode()) == len("a_heat1_.jpg") + LONGEST_CLASS
    long = folder / f"{'b' * 215}.png"
    (folder / "a.png").rename(long)
    main(["predict", str(long), "--classes", "star" * 20, "--write", "labels", "-o", str(tmp_path / "fits")])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["predict", str(long), "--classes", "star" * 20, "--overwrite", "-o", str(tmp_path / "other")])
    assert "leaves no room for those of its files; rename the picture" in capsys.readouterr().err
    assert not [*(tmp_path / "other").iterdir()]


def test_files_that_an_earlier_call_wrote_are_no_pictures(folder: Path) -> None:
    for _ in range(2):
        main(["predict", str(folder), "--classes", "star", "--write", "overlay", "-o", f"{folder}/out"])
    assert {path.name for path in (folder / "out").rglob("*.jpg")} == {"a_overlay.jpg", "b_overlay.jpg"}
    (folder / "out").rename(folder.parent / "elsewhere")
    (folder / "out").symlink_to(folder.parent / "elsewhere")
    assert [file.stem for file in picture_files([str(folder)], folder.parent / "elsewhere")] == ["a", "sub/b"]
    with pytest.raises(UserError, match=f"masks would lie among the pictures of {folder}; choose another --output"):
        picture_files([str(folder)], folder)
