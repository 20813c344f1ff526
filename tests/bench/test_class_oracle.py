from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from segscale.bench.inference.answers import merge_groups
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.markdown import leaderboard, scaling_table
from segscale.bench.report.tables import long_table
from segscale.bench.runs.options import RunOptions
from segscale.methods.method import ClassScores

from .cells import run_named

METHODS = ("vanilla", "goca-described")
GAP = "pocket val (oracle - full)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    for protocol in ("standard", "standard-full"):
        run_named("pocket-sd15", METHODS, "pocket", protocol, RunOptions(limit=4, results=folder))
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


def test_a_gap_is_of_runs_alike_and_of_each_protocol(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    full = rows["protocol"] == "standard-full"
    assert GAP not in scaling_table(rows.assign(seed=rows["seed"].where(full, 7)))
    again = rows[full].assign(protocol="mine", identity=rows[full]["identity"] + "x", miou=rows[full]["miou"] - 1)
    header, _, first, *_ = (cells(line) for line in scaling_table(pd.concat([rows, again])).splitlines())
    gaps = {name: float(first[header.index(f"pocket val (oracle - {name})")]) for name in ("mine", "standard-full")}
    assert gaps["mine"] == pytest.approx(gaps["standard-full"] + 1, abs=0.06)


def test_forwards_are_shown(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    forwards = dict(zip(rows["protocol"], rows["forwards"], strict=True))
    assert forwards == {"standard": 1, "standard-full": 3}
    found = re.findall(r"^\| (.*) \|$", leaderboard(rows), re.MULTILINE)
    at = cells(found[0]).index("forwards")
    assert [cells(line)[at] for line in found] == ["forwards", "1", "1", "forwards", "3", "3"]


def test_forwards_of_other_methods_in_the_same_run_do_not_count(tmp_path: Path) -> None:
    names = ("vanilla", "seg4diff-described")
    run_named("pocket-sd15", names, "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    assert long_table(evaluate_runs(tmp_path))["forwards"].tolist() == [1, 1]


def test_a_class_that_stands_out_beats_one_that_is_only_stretched() -> None:
    maps = torch.tensor([[[0.9, 0.1]], [[1.0, 0.2]]])
    there = ClassScores(maps[:1], torch.tensor([[0.0, 0.4]]), torch.tensor([0.5]))
    absent = ClassScores(maps[1:], torch.tensor([[0.2, 0.2]]), torch.tensor([0.1]))
    for groups, order in (((there, absent), [0, 1]), ((absent, there), [1, 0])):
        scores = merge_groups(groups)
        expected = torch.stack([maps[0], 0.2 * maps[1]])[order]
        torch.testing.assert_close(scores.classes, expected)
        torch.testing.assert_close(scores.background, torch.tensor([[0.1, 0.3]]))


def test_without_any_evidence_scores_stay_as_they_are() -> None:
    group = ClassScores(torch.rand(2, 3, 3), torch.rand(3, 3), torch.zeros(2))
    torch.testing.assert_close(merge_groups([group]).classes, group.classes)
