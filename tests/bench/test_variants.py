"""Runs of a method or protocol that differs from its config are evaluated and tabled like others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.analysis.layers import LayerAnalysis, Part, evaluate_parts
from segscale.bench.analysis.quirks import PROTOCOL_QUIRKS, method_cells, protocol_cells
from segscale.bench.report.evaluated import EvaluatedRun, evaluate_runs
from segscale.bench.report.files import ANALYSIS_FOLDER
from segscale.bench.report.markdown import leaderboard, method_matrix, scaling_table
from segscale.bench.report.published import COLUMNS, beside_published, comparable
from segscale.bench.report.tables import class_table, long_table
from segscale.bench.report.thresholds import Calibration, CalibrationFile, calibration_path, write_calibration
from segscale.bench.runs.counts import StoredCounts
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.methods.build import build_method
from segscale.registry import build

from .cells import run_cell, run_named

IMAGES = 3
CALIBRATED = 0.15


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GoCA under its protocol, as published and with each quirk of the protocol mended."""
    options = RunOptions(limit=IMAGES, results=tmp_path_factory.mktemp("quirks"))
    for cell in protocol_cells("goca", "pocket-sd15"):
        run_methods("pocket-sd15", [cell.method], build_task("pocket", cell.protocol, options), options)
    return options.results


@pytest.fixture(scope="module")
def by_protocol(results: Path) -> dict[str, EvaluatedRun]:
    return {run.plan.task.protocol.label: run for run in evaluate_runs(results)}


def mean_iou(counts: StoredCounts, threshold: float, every_class: bool) -> float:
    """mIoU in percent, over every class or over those that are predicted or labelled, by its definition."""
    index = counts.thresholds.index(threshold)
    intersection, predicted = counts.intersection[:, index].sum(0), counts.predicted_area[:, index].sum(0)
    union = predicted + counts.label_area.sum(0) - intersection
    seen = union > 0
    return 100 * float((intersection[seen] / union[seen]).sum()) / (len(seen) if every_class else int(seen.sum()))


def calibrate_by_hand(results: Path, method_name: str) -> None:
    """Say that ``CALIBRATED`` was chosen for a method under ``standard``."""
    calibration = Calibration(CALIBRATED, (CALIBRATED,), (50.0,), IMAGES, 0, "1", {}, {})
    content = CalibrationFile("standard", "pocket", "calibration", "by hand", {method_name: calibration})
    write_calibration(calibration_path(results, "standard", "pocket"), content)


def test_every_variant_of_a_protocol_is_a_run_of_its_own(by_protocol: dict[str, EvaluatedRun]) -> None:
    mended = [f"goca+{quirk.field}" for quirk in PROTOCOL_QUIRKS["goca"]]
    assert set(by_protocol) == {"goca", *mended, "goca-described"}
    for run in by_protocol.values():
        assert run.plan.task.protocol.name == "goca"


@pytest.mark.parametrize(
    ("variant", "every_class", "best"),
    [
        ("", True, True),
        ("+averaging", False, True),
        ("+threshold", True, False),
        ("+absent", True, True),
        ("+void", True, True),
        ("-described", False, False),
    ],
)
def test_a_variant_is_scored_by_the_rules_that_it_was_stored_with(
    variant: str, every_class: bool, best: bool, by_protocol: dict[str, EvaluatedRun]
) -> None:
    run = by_protocol[f"goca{variant}"]
    curve = {threshold: mean_iou(run.counts, threshold, every_class) for threshold in run.counts.thresholds}
    expected = max(curve.values()) if best else curve[0.0]
    assert 100 * run.score.miou == pytest.approx(expected, abs=1e-5)
    assert curve[run.threshold] == pytest.approx(expected)
    assert run.threshold_from == ("best" if best else "default")


def test_a_mended_averaging_changes_the_number_and_no_count(by_protocol: dict[str, EvaluatedRun]) -> None:
    published, mended = by_protocol["goca"], by_protocol["goca+averaging"]
    assert mended.run.table_rules == replace(published.run.table_rules, averaging="all")
    for name in ("intersection", "predicted_area", "label_area"):
        np.testing.assert_array_equal(getattr(published.counts, name), getattr(mended.counts, name))
    # Three images do not show all twelve classes.
    assert mended.score.miou > published.score.miou + 0.01


def test_tables_show_the_variant_beside_its_number(results: Path) -> None:
    evaluated = evaluate_runs(results)
    rows = long_table(evaluated)
    labels = {run.plan.task.protocol.label for run in evaluated}
    assert rows.groupby("protocol")["miou"].nunique().to_dict() == dict.fromkeys(labels, 1)
    by_label = rows.set_index("protocol")
    header, _, *cells = scaling_table(rows).splitlines()
    assert len(cells) == 1
    shown = dict(zip(header.split("|"), cells[0].split("|"), strict=True))
    texts = {title.strip(): cell.strip() for title, cell in shown.items()}
    for label in labels:
        mark = "*" if by_label.loc[label, "threshold_from"] == "best" else "†"
        assert texts[f"pocket val ({label})"].startswith(f"{by_label.loc[label, 'miou']:.1f}{mark}‡")
        assert f"## pocket val, protocol {label}\n" in leaderboard(rows)
        assert f"pocket val, protocol {label}, mIoU in percent:\n" in method_matrix(rows)
    assert set(class_table(evaluated)["protocol"]) == labels


def test_only_the_published_rules_stand_beside_a_published_number(results: Path) -> None:
    rows = long_table(evaluate_runs(results)).assign(backbone="sd15", dataset="voc", split="train")
    paper = dict(zip(COLUMNS, ("GoCA", "2603.06178", "GoCA", "SD v1.5", "none", "VOC", "goca", 50.0), strict=True))
    published = pd.DataFrame([paper])
    assert len(comparable(published)) == 1
    beside = beside_published(rows, published).set_index("protocol")["published"].dropna()
    assert beside.to_dict() == {"goca": 50.0}


def test_a_variant_of_a_method_is_tabled_and_has_no_calibrated_threshold(tmp_path: Path) -> None:
    published, mended, *_ = (cell.method for cell in method_cells("goca", "pocket-sd15"))
    run_cell("pocket-sd15", [published, mended], "pocket", "standard", RunOptions(limit=1, results=tmp_path))
    calibrate_by_hand(tmp_path, "goca")
    rows = long_table(evaluate_runs(tmp_path)).set_index("method")
    assert set(rows.index) == {"goca", f"goca{mended.variant}"}
    assert mended.variant.startswith("+")
    assert rows.loc["goca", ["threshold", "threshold_from"]].tolist() == [CALIBRATED, "calibrated"]
    assert rows.loc[f"goca{mended.variant}", ["threshold", "threshold_from"]].tolist() == [0.0, "default"]


def test_a_variant_of_a_protocol_has_no_calibrated_threshold(tmp_path: Path) -> None:
    options = RunOptions(limit=1, results=tmp_path)
    protocol = replace(build("protocol", "standard"), variant="+absent", absent="zero")
    task = build_task("pocket", protocol, options)
    run_methods("pocket-sd15", [build_method("goca", "pocket-sd15")], task, options)
    calibrate_by_hand(tmp_path, "goca")
    (run,) = evaluate_runs(tmp_path)
    assert (run.threshold, run.threshold_from) == (0.0, "default")


def test_rules_that_change_no_count_are_those_of_the_last_command(tmp_path: Path) -> None:
    options = RunOptions(limit=1, results=tmp_path)
    method, protocol = build_method("vanilla", "pocket-sd15"), build("protocol", "standard")
    runs = []
    for averaging in ("all", "every-class"):
        task = build_task("pocket", replace(protocol, averaging=averaging), options)
        run_methods("pocket-sd15", [method], task, options)
        runs += evaluate_runs(tmp_path)
    first, second = runs
    assert second.run == replace(first.run, table_rules=replace(first.run.table_rules, averaging="every-class"))
    np.testing.assert_array_equal(first.counts.seconds, second.counts.seconds)
    for run, every_class in ((first, False), (second, True)):
        assert 100 * run.score.miou == pytest.approx(mean_iou(run.counts, 0.0, every_class), abs=1e-5)
    assert first.score.miou > second.score.miou


def test_single_layers_are_tabled_by_the_number_of_their_analysis(tmp_path: Path) -> None:
    options = RunOptions(limit=IMAGES, results=tmp_path)
    parts = (Part(3, "vit-block3"), Part(4, "vit-block4", head=1))
    task = build_task("pocket", build("protocol", "standard"), options)
    analysis = evaluate_parts(LayerAnalysis("seg4diff-described", parts), "pocket-sd3", task, options)
    run_named(
        "pocket-sd3", ["seg4diff-described"], "pocket", "standard", replace(options, results=tmp_path / ANALYSIS_FOLDER)
    )
    rows = long_table(evaluate_runs(tmp_path / ANALYSIS_FOLDER)).set_index("method")
    labels = ["seg4diff-described@vit-block3", "seg4diff-described@vit-block4-head1"]
    assert set(rows.index) == {"seg4diff-described", *labels}
    assert analysis["method"].tolist() == labels
    columns = ["miou", "low", "high", "accuracy", "threshold", "images", "identity"]
    pd.testing.assert_frame_equal(rows.loc[labels, columns], analysis.set_index("method")[columns])
    assert rows["miou"].nunique() == 3
    for label in labels:
        assert f"| {label} " in scaling_table(rows.reset_index())
