"""Masks that a run keeps are what it counted, and the page shows them."""

from __future__ import annotations

import base64
import io
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import evaluate_all
from segscale.bench.report.page import gallery
from segscale.bench.report.page.render import Page, collect, render
from segscale.bench.runs.masks import (
    kept_masks,
    label_path,
    mask_path,
    picture_path,
    pictured_images,
    write_label_map,
)
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.runs.store import RunStore, find_runs
from segscale.datasets.files import FileError
from segscale.registry import build

COMMAND = ("run", "--method", "vanilla,goca", "--limit", "3", "--save-masks")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    main([*COMMAND, "2", "--results", str(folder)])
    return folder


def stores(results: Path) -> list[RunStore]:
    return find_runs(results)


def page(results: Path) -> Page:
    return collect(evaluate_all(results))


def pixels(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_mask_has_the_pixels_that_were_counted(results: Path) -> None:
    task = build_task("pocket", build("protocol", "standard"), RunOptions())
    for store in stores(results):
        counts = store.load(store.read())
        at_threshold = counts.at_threshold(0.0)
        for place, image in enumerate(counts.images[:2]):
            with Image.open(mask_path(store.folder, image)) as mask:
                assert (mask.getpalette() or [])[3:6] == [*task.dataset.palette[1]]
                ids = np.asarray(mask)
            label = task.dataset[task.dataset.ids.index(image)].label
            assert ids.shape == label.shape
            right = np.bincount(label[(ids == label)], minlength=13)
            assert right.tolist() == at_threshold.intersection[place].tolist()
            assert at_threshold.predicted_area[place].sum() > right.sum() > 0


def test_only_the_images_that_were_asked_for_are_kept(results: Path) -> None:
    for store in stores(results):
        images = store.load(store.read()).images
        assert pictured_images(store.folder) == [*images[:2]]
        assert not mask_path(store.folder, images[2]).exists()


def test_images_that_are_stored_without_mask_are_counted(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        main([*COMMAND, "--results", str(results)])
    assert caplog.text.count("has 1 images without mask") == 2


@pytest.mark.parametrize(("protocol", "method"), [("goca", "vanilla"), ("seg4diff-unsupervised", "seg4diff-masks")])
def test_a_protocol_without_label_maps_is_refused_before_a_model_is_loaded(
    protocol: str, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segscale.bench.runs.plan.BackbonePlan.load", lambda *_: pytest.fail("loaded"))
    words = ["run", "--backbone", "pocket-sd3", "--protocol", protocol, "--method", method, "--save-masks"]
    with pytest.raises(SystemExit):
        main([*words, "--results", str(tmp_path)])
    assert "leave --save-masks out" in capsys.readouterr().err


def test_an_image_of_any_name_is_one_file_in_its_folder(tmp_path: Path) -> None:
    for name in ("aachen/a_0.png", "..", "a b%2F", "ä"):
        path = mask_path(tmp_path, name)
        assert path.parent == tmp_path / "masks"
        for each in (path, picture_path(tmp_path, name), label_path(tmp_path, name)):
            each.parent.mkdir(exist_ok=True)
            each.touch()
    assert pictured_images(tmp_path) == sorted(["aachen/a_0.png", "..", "a b%2F", "ä"])


def test_an_image_whose_name_is_too_long_for_its_mask_keeps_one(tmp_path: Path) -> None:
    names = ["写真" * 40 + end for end in "ab"]
    for folder in ("images", "masks"):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for name in names:
            Image.new("L", (64, 64), 1).save(tmp_path / f"own/{folder}/{name}.png")
    (tmp_path / "own/classes.txt").write_text("dog\n")
    words = ["run", "--backbone", "pocket-sd15", "--method", "vanilla", "--dataset", "folder", "--save-masks"]
    main([*words, "--data-root", str(tmp_path / "own"), "--results", str(tmp_path / "results")])
    (store,) = stores(tmp_path / "results")
    assert pictured_images(store.folder) == [image for image, _ in kept_masks(store.folder)] == names
    damaged = mask_path(store.folder, names[0])
    damaged.write_bytes(damaged.read_bytes()[:9])
    with pytest.raises(FileError, match=f"{damaged.name} is damaged"):
        list(kept_masks(store.folder))


def test_the_page_shows_them_in_the_colours_of_the_dataset(results: Path) -> None:
    shown = page(results).gallery
    assert shown.kept == len(shown.images) == 2
    palette = build_task("pocket", build("protocol", "standard"), RunOptions()).dataset.palette
    assert shown.colours == {0: tuple("#" + bytes(colour).hex() for colour in palette)}
    (image, _), (store, _) = shown.images, stores(results)
    assert [*image.masks] == [0, 1]
    with Image.open(label_path(store.folder, image.name)) as label:
        assert np.array_equal(pixels(image.label), np.asarray(label.convert("RGB")))
    assert pixels(image.picture).shape == pixels(image.masks[0]).shape
    assert 'id="gallery"' in render(page(results))


def test_a_large_page_shows_some_of_them_and_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "images are here" not in render(page(results))
    monkeypatch.setattr(gallery, "MASKS", 3)
    assert "1 of 2 images are here" in render(page(results))


def test_an_ignored_pixel_has_a_colour_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    write_label_map(path, np.array([[0, 1, 255]], np.uint8), ((0, 0, 0), (200, 0, 0)))
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == [[0, 1, 255]]
        assert np.asarray(image.convert("RGB"))[0].tolist() == [[0, 0, 0], [200, 0, 0], [224, 224, 224]]


def test_masks_are_exported_as_a_coco_dataset(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for store in stores(results):
        run = store.read()
        path = tmp_path / "coco.json"
        main(["export", f"pocket-sd15/{run.plan.method.name}", "-o", str(path), "--results", str(results)])
        dataset = COCO(str(path))
        names = {category["id"]: category["name"] for category in dataset.loadCats(dataset.getCatIds())}
        assert names == {id: name for id, name in enumerate(run.classes) if name != "background"}
        images = dataset.loadImgs(dataset.getImgIds())
        assert [image["file_name"] for image in images] == pictured_images(store.folder)
        for image in images:
            with Image.open(mask_path(store.folder, image["file_name"])) as mask:
                ids = np.asarray(mask)
            for annotation in dataset.loadAnns(dataset.getAnnIds(image["id"])):
                assert np.array_equal(dataset.annToMask(annotation), ids == annotation["category_id"])
    with pytest.raises(SystemExit):
        main(["export", "pocket-sd15", "--results", str(results)])
    assert "2 stored runs are pocket-sd15; name backbone, method" in capsys.readouterr().err


def test_a_damaged_mask_is_one_line_of_the_export(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(results, tmp_path / "copy")
    path = min(tmp_path.glob("copy/runs/*/vanilla/*/*/masks/*.png"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SystemExit):
        main(["export", "pocket-sd15/vanilla", "--results", str(tmp_path / "copy")])
    assert f"{path} is damaged" in capsys.readouterr().err
