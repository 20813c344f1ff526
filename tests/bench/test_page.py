"""The report page holds the numbers of the tables, and nothing that a browser would fetch or run besides its script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segscale.bench.commands.main import main
from segscale.bench.report.comparison import compare
from segscale.bench.report.evaluated import EvaluatedRun, Evaluation
from segscale.bench.report.markdown import leaderboard
from segscale.bench.report.page import data
from segscale.bench.report.page.render import collect, render
from segscale.bench.report.tables import class_table, long_table
from segscale.bench.runs.conditions import Conditions, note_conditions

from .test_comparison import IMAGES, stored

HOSTILE = "</script><b>&\"'<!--"
VOID = {"meta", "link", "input", "br", "img"}


class Outline(HTMLParser):
    """Elements with their attributes, and the text of each kind; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def runs(tmp_path: Path) -> list[EvaluatedRun]:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.4, 0.8, IMAGES)
    return [
        stored(tmp_path, shares + rng.normal(gain, 0.03, IMAGES), name)
        for name, gain in (("worst", 0.0), ("middle", 0.05), ("best", 0.06))
    ]


@pytest.fixture
def page(tmp_path: Path, runs: list[EvaluatedRun]) -> str:
    return render(collect(Evaluation(runs, 0)))


def embedded(page: str) -> dict[str, Any]:
    """The page's data, as a browser reads the element."""
    (text,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script', page, re.DOTALL)
    return json.loads(text)


def test_numbers_are_those_of_the_tables(runs: list[EvaluatedRun], page: str) -> None:
    rows = long_table(runs).set_index("identity")
    classes = class_table(runs).set_index(["identity", "class"])["iou"]
    content = embedded(page)
    assert [run["id"] for run in content["runs"]] == [*rows.index]
    for run in content["runs"]:
        row = rows.loc[run["id"]]
        task = content["tasks"][run["task"]]
        for column in ("miou", "low", "high"):
            assert run[column] == round(row[column], 1)
        assert run["curve"][task["thresholds"].index(row["threshold"])] == run["miou"]
        for name, iou, curve in zip(task["classes"], run["class_iou"], run["class_curves"], strict=True):
            assert iou == round(classes[run["id"], name], 1)
            assert curve[task["thresholds"].index(row["threshold"])] == iou


def test_the_leaderboard_has_the_cells_of_the_markdown(runs: list[EvaluatedRun], page: str) -> None:
    table = re.findall(r"^\| (\w+) +\| b .*$", leaderboard(long_table(runs)), re.MULTILINE)
    rows = re.findall(r"<tr data-.*?</tr>", page, re.DOTALL)
    assert [re.findall(r'<th scope="row">(.*?)</th>', row)[0] for row in rows] == table
    for name, row in zip(table, rows, strict=True):
        (line,) = re.findall(rf"^\| {name} .*$", leaderboard(long_table(runs)), re.MULTILINE)
        cells = {re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)}
        assert {cell.strip(" *") for cell in line.split("|")[2:-1]} <= cells
        assert ("**" in line) == ("<strong>" in row)


def test_a_comparison_is_corrected_for_the_runs_that_share_a_backbone(runs: list[EvaluatedRun], page: str) -> None:
    content = embedded(page)
    places = {run["id"]: place for place, run in enumerate(content["runs"])}
    (group,) = [group for group in content["groups"] if group["name"] == "methods on b"]
    ordered = sorted(runs, key=lambda run: places[run.run.run_id])
    expected = compare([*combinations(ordered, 2)])
    assert group["names"] == [run.plan.method.label for run in ordered]
    for shown, comparison in zip(group["differences"], expected, strict=True):
        assert shown["run"] == places[comparison.run.run.run_id]
        assert shown["reference"] == places[comparison.reference.run.run_id]
        numbers = (comparison.difference.value, *comparison.difference.bounds)
        assert [shown[name] for name in ("value", "low", "high")] == [round(100 * number, 1) for number in numbers]
        assert shown["p"] == pytest.approx(comparison.corrected_p, rel=0.05)
        assert shown["is_significant"] == comparison.is_significant


def test_without_masks_there_is_no_gallery(page: str) -> None:
    assert 'id="gallery"' not in page
    assert embedded(page)["gallery"]["images"] == []


def test_one_backbone_of_a_method_is_compared_with_nothing(page: str) -> None:
    groups = [group for group in embedded(page)["groups"] if group["name"].startswith("backbones with")]
    assert [(len(group["runs"]), group["differences"]) for group in groups] == [(1, []), (1, []), (1, [])]


def test_provenance_is_whole(tmp_path: Path, runs: list[EvaluatedRun]) -> None:
    run = runs[0].run
    folder = tmp_path / "runs/b/worst/d" / run.run_id
    note_conditions(folder, Conditions(run.machine, "cuda:1", 2, ("worst", "best")))
    stored = embedded(render(collect(Evaluation(runs, 0))))["provenance"][run.run_id]
    assert stored["plan"]["method"]["parameters"] == {"order": 1, "sites": ["a", "b"]}
    assert stored["machine"]["platform"] == "Linux"
    assert [conditions["device"] for conditions in stored["conditions"]] == ["cuda:1"]


def test_nothing_is_fetched_and_only_one_script_runs(page: str) -> None:
    outline = Outline(page)
    for _, attributes in outline.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        targets = [attributes.get(name, "#") for name in ("src", "href", "action", "data", "srcset")]
        assert all(target.startswith(("#", "data:")) for target in targets)
    assert not re.search(r"https?://|@import|url\(", page)
    (policy,) = [meta["content"] for meta in outline.named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none';")
    script = outline.texts["script"][-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_page_can_be_used_without_eyes_or_a_mouse(page: str) -> None:
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    assert all(cell.get("scope") in ("col", "row") for cell in outline.named("th"))
    head = page.partition('<table id="leaderboard">')[2].partition("</thead>")[0]
    assert head.count('aria-sort="none"') == head.count('<button type="button">') == head.count("<th ")
    labels = "".join(re.findall(r"<label.*?</label>", page, re.DOTALL))
    controls = r"<(?:select|input)\b"
    markup = page.partition('<script type="application/json"')[0]
    assert len(re.findall(controls, labels)) == len(re.findall(controls, markup))
    for _, attributes in outline.elements:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name, ids[0]) in ids


def test_names_are_texts_whatever_they_hold(tmp_path: Path, runs: list[EvaluatedRun]) -> None:
    hostile = [
        replace(run, run=replace(run.run, classes=(HOSTILE, "y", "z"), plan=_named(run, f"{HOSTILE}{place}")))
        for place, run in enumerate(runs)
    ]
    outline = Outline(render(collect(Evaluation(hostile, 0))))
    assert outline.named("b") == []
    assert outline.texts["th"].count(f"{HOSTILE}0") == 1
    content = json.loads(outline.texts["script"][0])
    assert content["tasks"][0]["classes"][0] == HOSTILE
    assert len(outline.texts["script"]) == 2


def _named(run: EvaluatedRun, name: str) -> Any:
    return replace(run.plan, method=replace(run.plan.method, name=name))


def test_the_same_runs_give_the_same_page(tmp_path: Path, runs: list[EvaluatedRun], page: str) -> None:
    assert render(collect(Evaluation(runs[::-1], 0))) == page


def test_a_large_page_leaves_the_curves_of_classes_out_and_says_so(
    tmp_path: Path, runs: list[EvaluatedRun], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = "at other thresholds it was left out"
    assert statement not in page
    monkeypatch.setattr(data, "CLASS_CURVE_NUMBERS", 3 * 2 * 3 - 1)
    large = render(collect(Evaluation(runs, 0)))
    assert statement in large
    assert 'id="follow-slider"' not in large
    assert all(run["class_curves"] is None and run["class_iou"] for run in embedded(large)["runs"])


def test_a_background_that_is_not_scored_has_no_iou(tmp_path: Path, runs: list[EvaluatedRun]) -> None:
    assert embedded(render(collect(Evaluation(runs[:1], 0))))["runs"][0]["class_iou"][0] is not None
    protocol = runs[0].plan.task.protocol
    rules = replace(protocol, rules={**protocol.rules, "background_scored": False})
    plan = replace(runs[0].plan, task=replace(runs[0].plan.task, protocol=rules))
    unscored = replace(runs[0], run=replace(runs[0].run, plan=plan))
    (run,) = embedded(render(collect(Evaluation([unscored], 0))))["runs"]
    assert run["class_iou"][0] is None
    assert run["class_iou"][1] is not None


def test_the_command_writes_the_page_where_it_is_told(
    tmp_path: Path, runs: list[EvaluatedRun], page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", "--results", str(tmp_path)])
    assert (tmp_path / "report.html").read_text() == page
    main(["report", "--results", str(tmp_path), "--output", str(tmp_path / "new/page.html")])
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path / 'new/page.html'}"
    assert (tmp_path / "new/page.html").read_text() == page
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["report", "--results", str(tmp_path), "--output", str(tmp_path / "file/page.html")])
    assert "choose another --output" in capsys.readouterr().err
