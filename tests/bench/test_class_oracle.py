from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from segscale.bench.inference.score import combined
from segscale.bench.report.tables import evaluate_runs, leaderboard, long_table, scaling_table
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.plan import RunOptions, build_methods
from segscale.methods.method import ClassScores

METHODS = ("vanilla", "goca-described")
GAP = "pocket val (oracle - full)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    for protocol in ("standard", "standard-full"):
        methods = build_methods(METHODS, "pocket-sd15", protocol)
        run_methods("pocket-sd15", methods, "pocket", protocol, RunOptions(limit=4, results=folder))
    return folder


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_gap_stands_beside_what_it_compares(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    header, _, *lines = (cells(line) for line in scaling_table(rows).splitlines())
    assert header[-3:] == ["pocket val (standard)", "pocket val (standard-full)", GAP]
    miou = rows.set_index(["method", "protocol"])["miou"]
    for method, line in zip(sorted(METHODS), lines, strict=True):
        assert line[0] == method
        assert line[-1] == f"{miou[method, 'standard'] - miou[method, 'standard-full']:+.1f}"


def test_runs_over_different_images_have_no_gap(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    fewer = rows.assign(images=rows["images"].where(rows["protocol"] == "standard", 3))
    assert GAP not in scaling_table(fewer)
    other = rows.assign(split=rows["split"].where(rows["protocol"] == "standard", "train"))
    assert "oracle - full" not in scaling_table(other)
    one_method = rows[(rows["protocol"] == "standard") | (rows["method"] == "vanilla")]
    first = scaling_table(one_method).splitlines()[2]
    assert (cells(first)[0], cells(first)[-1]) == ("goca-described", "-")


def test_forwards_are_shown(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    forwards = dict(zip(rows["protocol"], rows["forwards"], strict=True))
    assert forwards == {"standard": 1, "standard-full": 3}
    found = re.findall(r"^\| (.*) \|$", leaderboard(rows), re.MULTILINE)
    at = cells(found[0]).index("forwards")
    assert [cells(line)[at] for line in found] == ["forwards", "1", "1", "forwards", "3", "3"]


def test_forwards_of_other_methods_in_the_same_run_do_not_count(tmp_path: Path) -> None:
    methods = build_methods(["vanilla", "seg4diff-described"], "pocket-sd15", "standard")
    run_methods("pocket-sd15", methods, "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    assert long_table(evaluate_runs(tmp_path))["forwards"].tolist() == [1, 1]


def test_forwards_of_a_killed_run_are_unknown(tmp_path: Path) -> None:
    options = RunOptions(limit=1, results=tmp_path)
    (store,) = run_methods(
        "pocket-sd15", build_methods(["vanilla"], "pocket-sd15", "standard"), "pocket", "standard", options
    )
    path = store.folder / "run.json"
    path.write_text(json.dumps({key: value for key, value in store.read().items() if "forwards" not in key}))
    header, _, row = (line for line in leaderboard(long_table(evaluate_runs(tmp_path))).splitlines() if "|" in line)
    assert cells(row)[cells(header).index("forwards")] == "-"


def test_a_class_that_stands_out_beats_one_that_is_only_stretched() -> None:
    maps = torch.tensor([[[0.9, 0.1]], [[1.0, 0.2]]])
    there = ClassScores(maps[:1], torch.tensor([[0.0, 0.4]]), torch.tensor([0.5]))
    absent = ClassScores(maps[1:], torch.tensor([[0.2, 0.2]]), torch.tensor([0.1]))
    for groups, order in (((there, absent), [0, 1]), ((absent, there), [1, 0])):
        scores = combined(groups)
        expected = torch.stack([maps[0], 0.2 * maps[1]])[order]
        torch.testing.assert_close(scores.classes, expected)
        torch.testing.assert_close(scores.background, torch.tensor([[0.1, 0.3]]))


def test_without_any_evidence_scores_stay_as_they_are() -> None:
    group = ClassScores(torch.rand(2, 3, 3), torch.rand(3, 3), torch.zeros(2))
    torch.testing.assert_close(combined([group]).classes, group.classes)
