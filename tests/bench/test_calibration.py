from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segscale.bench.analysis.calibration import MeasuredRun, calibrate, calibration_task, choose, store_thresholds
from segscale.bench.commands.main import main
from segscale.bench.report import thresholds as threshold_files
from segscale.bench.report.evaluated import _threshold, evaluate_runs
from segscale.bench.report.markdown import leaderboard, scaling_table
from segscale.bench.report.tables import DEFAULT_NOTE, long_table, notes
from segscale.bench.report.thresholds import Curve, Thresholds
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, plan_backbone
from segscale.bench.runs.record import StoredRun
from segscale.bench.tasks.identity import DatasetIdentity
from segscale.bench.tasks.task import Task
from segscale.datasets.pocket import PocketScenes
from segscale.errors import UserError
from segscale.registry import DATASETS, build

from .cells import run_named
from .test_data_check import make_voc

BACKBONES = ("pocket-sd15", "pocket-pixart-sigma")
CELL = ("pocket", "standard")
SHIPPED = Path(__file__).parents[2] / "results" / "pocket" / "calibration" / "standard-pocket.json"


def calibrated(
    results: Path,
    *methods: str,
    backbones: tuple[str, ...] = BACKBONES,
    limit: int = 3,
    overwrite: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    options = RunOptions(limit=limit, results=results, seed=seed)
    task = task_of("standard", options)
    path, _ = store_thresholds(calibrate(backbones, methods, task, options), task, options, overwrite)
    return json.loads(path.read_text())


def task_of(protocol_name: str, options: RunOptions) -> Task:
    return calibration_task("pocket", build("protocol", protocol_name), options)


def with_threshold(results: Path, threshold: float) -> None:
    """Replaces what was chosen for vanilla."""
    path = results / "calibration" / "standard-pocket.json"
    content = json.loads(path.read_text())
    content["methods"]["vanilla"]["threshold"] = threshold
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    options = RunOptions(limit=1, results=tmp_path_factory.mktemp("one"))
    (store,) = run_named("pocket-sd15", ["vanilla"], *CELL, options)
    return store.read()


def choice(stored: StoredRun, *curves: tuple[float, ...]) -> float:
    """What is chosen of curves over the thresholds -0.2 to 0.1, one per backbone."""
    protocol = replace(stored.plan.task.protocol, thresholds=(-0.2, -0.1, 0.0, 0.1))
    plan = replace(stored.plan, task=replace(stored.plan.task, protocol=protocol))
    runs = []
    for number, curve in enumerate(curves):
        backbone = replace(plan.backbone, name=str(number))
        run = replace(stored, plan=replace(plan, backbone=backbone))
        runs.append(MeasuredRun(run, 3, Curve("w", "float32", "r", curve)))
    return choose(runs).threshold


def test_one_threshold_serves_all_backbones(stored: StoredRun) -> None:
    assert choice(stored, (90.0, 50.0, 10.0, 0.0), (0.0, 50.0, 60.0, 10.0)) == -0.1
    assert choice(stored, (90.0, 50.0, 10.0, 0.0)) == -0.2


def test_of_equal_thresholds_the_nearest_to_zero_is_chosen_then_the_lowest(stored: StoredRun) -> None:
    assert choice(stored, (5.0, 5.0, 5.0, 1.0)) == 0.0
    assert choice(stored, (5.0, 5.0, 1.0, 5.0)) == -0.1


def test_the_stored_threshold_follows_from_the_runs_that_it_names(tmp_path: Path) -> None:
    stored = calibrated(tmp_path, "vanilla")["methods"]["vanilla"]
    thresholds = build("protocol", "standard").thresholds
    curves = []
    for backbone in BACKBONES:
        options = RunOptions(limit=3, results=tmp_path / backbone, split="calibration")
        (store,) = run_named(backbone, ["vanilla"], *CELL, options)
        counts = store.load(store.read())
        intersection, predicted = counts.intersection.sum(0), counts.predicted_area.sum(0)
        union = predicted + counts.label_area.sum(0) - intersection
        iou = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
        curves.append(100 * np.nanmean(iou, axis=1))
        one = stored["backbones"][backbone]
        assert one["miou"] == pytest.approx(curves[-1], abs=1e-4)
        assert (one["run"], one["weights"]) == (
            store.folder.name,
            plan_backbone(backbone, RunOptions()).identity.weights,
        )
    mean = np.mean(curves, axis=0)
    assert stored["threshold"] == thresholds[int(mean.argmax())]
    assert stored["mean"] == pytest.approx(mean, abs=1e-4)
    assert (stored["images"], stored["seed"], sorted(stored["backbones"])) == (3, 0, sorted(BACKBONES))


def test_only_the_first_images_count_even_where_more_are_stored(tmp_path: Path) -> None:
    few = calibrated(tmp_path / "few", "vanilla", backbones=BACKBONES[:1], limit=2)
    calibrated(tmp_path / "more", "vanilla", backbones=BACKBONES[:1], limit=4)
    again = calibrated(tmp_path / "more", "vanilla", backbones=BACKBONES[:1], limit=2, overwrite=True)
    assert again == few


def test_calibrating_one_method_keeps_the_others(tmp_path: Path) -> None:
    first = calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    second = calibrated(tmp_path, "goca-described", backbones=BACKBONES[:1])
    assert list(second["methods"]) == ["goca-described", "vanilla"]
    assert second["methods"]["vanilla"] == first["methods"]["vanilla"]


def test_tables_read_the_calibrated_threshold_and_mark_what_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold_files, "packaged_results", lambda: tmp_path / "nothing")
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    with_threshold(tmp_path, 0.15)
    run_named("pocket-sd15", ["vanilla", "goca-described"], *CELL, RunOptions(limit=3, results=tmp_path))
    rows = long_table(evaluate_runs(tmp_path))
    found = {row["method"]: (row["threshold"], row["threshold_from"]) for row in rows.to_dict("records")}
    # The runs of the calibration itself are no rows.
    assert len(rows) == 2
    assert found == {"vanilla": (0.15, "calibrated"), "goca-described": (0.0, "default")}
    assert DEFAULT_NOTE in notes(rows)
    for text in (scaling_table(rows), leaderboard(rows)):
        marked = [line.split()[1] for line in text.splitlines() if "†‡" in line]
        assert marked == ["goca-described"]
    calibrated_rows = rows[rows["method"] == "vanilla"]
    assert DEFAULT_NOTE not in notes(calibrated_rows)


@pytest.mark.parametrize("split", ["train", "trainval", "segmentation-train"])
def test_splits_that_hold_the_images_of_the_calibration_are_not_read_with_it(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold_files, "packaged_results", lambda: tmp_path / "nothing")
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    run_named("pocket-sd15", ["vanilla"], *CELL, RunOptions(limit=1, results=tmp_path))
    (run,) = (run for run in evaluate_runs(tmp_path) if run.plan.task.dataset.split == "val")
    assert run.threshold_from == "calibrated"
    task = run.plan.task
    moved = replace(run.run, plan=replace(run.plan, task=replace(task, dataset=replace(task.dataset, split=split))))
    assert _threshold(moved, Thresholds(tmp_path))[1] == "default"


def test_a_calibrated_threshold_changes_the_number(tmp_path: Path) -> None:
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    run_named("pocket-sd15", ["vanilla"], *CELL, RunOptions(limit=3, results=tmp_path))
    scores = []
    for threshold in (-0.4, 0.4):
        with_threshold(tmp_path, threshold)
        (one,) = evaluate_runs(tmp_path)
        scores.append(one.score.miou)
    assert scores[0] != scores[1]


def test_on_its_own_images_the_threshold_is_not_used(tmp_path: Path) -> None:
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    with_threshold(tmp_path, 0.15)
    options = RunOptions(limit=2, split="calibration", results=tmp_path)
    run_named("pocket-sd15", ["vanilla"], *CELL, options)
    (one,) = evaluate_runs(tmp_path)
    assert (one.threshold, one.threshold_from) == (0.0, "default")


def test_a_rule_without_threshold_is_not_marked(tmp_path: Path) -> None:
    run_named("pocket-sd3", ["seg4diff"], "pocket", "seg4diff", RunOptions(limit=1, results=tmp_path))
    rows = long_table(evaluate_runs(tmp_path))
    assert rows["threshold_from"].tolist() == ["none"]
    assert DEFAULT_NOTE not in notes(rows)


@pytest.mark.parametrize("protocol", ["goca", "seg4diff"])
def test_a_protocol_without_a_choice_is_not_calibrated(protocol: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"protocol {protocol} "):
        task_of(protocol, RunOptions(limit=1, results=tmp_path))
    assert not list(tmp_path.iterdir())


def test_runs_that_lack_images_choose_nothing(tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    task = task_of("standard", options)
    stores = calibrate(BACKBONES[:1], ["vanilla"], task, options)
    with pytest.raises(UserError, match="lacks 1 of 3 images"):
        store_thresholds(stores, task, replace(options, limit=3), overwrite=False)
    assert not (tmp_path / "calibration" / "standard-pocket.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"methods": {"vanilla": {}}}', '{"methods": {"vanilla": 0}}'])
def test_a_damaged_file_is_one_line(content: str, tmp_path: Path) -> None:
    run_named("pocket-sd15", ["vanilla"], *CELL, RunOptions(limit=1, results=tmp_path))
    path = tmp_path / "calibration" / "standard-pocket.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=r"standard-pocket\.json is damaged; make .*: segscale calibrate --overwrite"):
        evaluate_runs(tmp_path)
    with pytest.raises(UserError, match=r"standard-pocket\.json is damaged"):
        calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    assert "vanilla" in calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1], overwrite=True)["methods"]
    assert evaluate_runs(tmp_path)


def test_only_the_first_process_of_a_launcher_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["calibrate", "--backbone", "pocket-sd15", "--method", "vanilla", "--limit", "2"]
    path = tmp_path / "calibration" / "standard-pocket.json"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    main([*command, "--results", str(tmp_path)])
    assert not path.exists()
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    main([*command, "--results", str(tmp_path)])
    assert json.loads(path.read_text())["methods"]["vanilla"]["images"] == 2
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[0] == "vanilla"
    assert printed[-1] == f"wrote {path}"


def test_the_shipped_thresholds_follow_from_their_curves_and_from_the_shipped_twins() -> None:
    content = json.loads(SHIPPED.read_text())
    expected = {
        method.name for method in build_methods(None, "pocket-sd15", build("protocol", "standard")) if method.normalised
    }
    assert set(content["methods"]) == expected
    for stored in content["methods"].values():
        assert len(stored["backbones"]) == 5
        assert tuple(stored["thresholds"]) == build("protocol", "standard").thresholds
        curves = [one["miou"] for one in stored["backbones"].values()]
        assert stored["mean"] == pytest.approx(np.mean(curves, axis=0), abs=1e-3)
        chosen = stored["thresholds"].index(stored["threshold"])
        assert stored["mean"][chosen] == max(stored["mean"])
        for backbone, one in stored["backbones"].items():
            assert one["weights"] == plan_backbone(backbone, RunOptions()).identity.weights


def test_a_larger_calibration_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    calibrated(tmp_path, "vanilla")
    fewer_backbones = (BACKBONES[:1], 3, "its curve of pocket-.* would be lost")
    for backbones, limit, lost in ((BACKBONES, 2, "here are 2"), fewer_backbones):
        with pytest.raises(UserError, match=rf"vanilla calibrated on 3 images of pocket-.*; {lost}; .*--overwrite"):
            calibrated(tmp_path, "vanilla", backbones=backbones, limit=limit)
    calibrated(tmp_path, "vanilla", limit=4)
    with pytest.raises(UserError, match=r"its curve of pocket-.* would be lost; .*--overwrite"):
        calibrated(tmp_path, "vanilla", limit=4, seed=1)
    fewer = calibrated(tmp_path, "vanilla", limit=2, overwrite=True)
    assert fewer["methods"]["vanilla"]["images"] == 2


def test_the_package_carries_the_pocket_thresholds_and_own_ones_come_first(tmp_path: Path) -> None:
    shipped = json.loads(SHIPPED.read_text())["methods"]["goca"]["threshold"]
    dataset = DatasetIdentity("pocket", "pocket", "val", "digest", {})
    variant = replace(dataset, name="pocket-variant")
    assert Thresholds(tmp_path).calibrated("standard", dataset, "goca") == (shipped, "packaged")
    assert Thresholds(tmp_path).calibrated("standard", variant, "goca") == (shipped, "packaged")
    assert Thresholds(tmp_path).calibrated("standard", replace(variant, benchmark="ours"), "goca") is None
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    with_threshold(tmp_path, 0.15)
    assert Thresholds(tmp_path).calibrated("standard", dataset, "vanilla") == (0.15, "calibrated")


class WithoutSplits(PocketScenes):
    """Has the same images in every split."""

    def id_of(self, index: int) -> str:
        return f"{index:05d}"


def test_images_that_are_evaluated_calibrate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS.module_dict, "PocketScenes", WithoutSplits)
    with pytest.raises(UserError, match="200 images of pocket are in its splits calibration and val, such as 00000"):
        task_of("standard", RunOptions())


@pytest.mark.parametrize("way", ["the same picture under two names", "pictures of their own"])
def test_one_picture_in_both_splits_is_refused_whatever_its_name(way: str, tmp_path: Path) -> None:
    make_voc(tmp_path, ["evaluated_0", "evaluated_1"])
    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation/train.txt").write_text("tuned_0\ntuned_1\n")
    for number in range(2):
        Image.new("RGB", (40, 30), (number, 9, 9)).save(folder / f"JPEGImages/tuned_{number}.jpg")
        shutil.copy(folder / "SegmentationClass/evaluated_0.png", folder / f"SegmentationClass/tuned_{number}.png")
    if way == "the same picture under two names":
        shutil.copy(folder / "JPEGImages/evaluated_1.jpg", folder / "JPEGImages/tuned_1.jpg")
    options = RunOptions(data_root=str(tmp_path))
    if way == "pictures of their own":
        assert len(calibration_task("voc", build("protocol", "standard"), options).dataset) == 2
        return
    with pytest.raises(UserError, match="one picture twice in its splits calibration and val, as tuned_1 and"):
        calibration_task("voc", build("protocol", "standard"), options)


def test_an_image_that_cannot_be_read_is_left_to_the_run(tmp_path: Path) -> None:
    make_voc(tmp_path, ["evaluated_0"])
    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation/train.txt").write_text("gone\n")
    task = calibration_task("voc", build("protocol", "standard"), RunOptions(data_root=str(tmp_path)))
    assert task.dataset.ids == ("gone",)


def test_a_threshold_that_a_run_has_no_counts_at_is_chosen_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrated(tmp_path, "vanilla", backbones=BACKBONES[:1])
    run_named(BACKBONES[0], ["vanilla"], *CELL, RunOptions(limit=2, results=tmp_path))
    with_threshold(tmp_path, 0.123)
    with pytest.raises(UserError, match="holds an image"):
        evaluate_runs(tmp_path)
    assert "no counts at the calibrated threshold 0.123; choose one that it has: segscale calibrate" in caplog.text
    assert "--dataset pocket --protocol standard --method vanilla --overwrite" in caplog.text
