"""Scores that are not finite, and classes without a token: counted, marked, never a win by NaN unless published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.sites import Site
from segscale.backbones.build import build_backbone
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.bench.commands.run import _print_classes
from segscale.bench.evaluation.decision import NO_CLASS, BackgroundRule, Decision
from segscale.bench.evaluation.labelling import decide_pixels
from segscale.bench.inference.score import image_noise, score
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.markdown import leaderboard, method_matrix, scaling_table
from segscale.bench.report.tables import long_table, notes
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.runs.store import RunStore
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.methods.method import ClassScores, Method
from segscale.registry import build

from .cells import run_cell

nan, inf = torch.nan, torch.inf


@dataclass(frozen=True, kw_only=True)
class Broken(Method):
    """Three scores of the first class and one of background are not finite."""

    normalised = True

    @property
    def settings(self) -> CaptureSettings:
        return CaptureSettings(64, Timestep(t=200))

    def request(self, sites: Sequence[Site]) -> MapRequest:
        return MapRequest(text=frozenset([sites[0].name]))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        classes = torch.ones(len(maps.tokens[0].classes), 8, 8)
        classes[0, 0, :3] = torch.tensor([nan, inf, -inf])
        background = torch.zeros(8, 8)
        background[1, 1] = nan
        return ClassScores(classes, background)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    methods = [Broken(name="broken"), build_method("vanilla", "pocket-sd15")]
    run_cell("pocket-sd15", methods, "pocket", "standard", RunOptions(limit=3, results=folder))
    return folder


def test_they_are_counted_per_method_and_image(results: Path) -> None:
    counts = {run.plan.method.name: run.counts for run in evaluate_runs(results)}
    assert counts["broken"].not_finite.tolist() == [4, 4, 4]
    assert counts["vanilla"].not_finite.tolist() == [0, 0, 0]
    assert counts["broken"].cut_classes.tolist() == [0, 0, 0]
    assert counts["broken"].only(counts["broken"].images[:1]).not_finite.tolist() == [4]


def test_tables_mark_them_with_their_number(results: Path) -> None:
    rows = long_table(evaluate_runs(results))
    assert dict(zip(rows["method"], rows["not_finite"], strict=True)) == {"broken": 12, "vanilla": 0}
    (note,) = (note for note in notes(rows) if note.startswith("¶"))
    assert note.endswith("12 in broken on pocket-sd15, pocket val (standard).")
    for table in (method_matrix(rows), scaling_table(rows), leaderboard(rows)):
        marked = [line for line in table.splitlines() if "¶" in line and line.startswith("|")]
        assert len(marked) == 1
        assert "broken" in marked[0]
    assert note in leaderboard(rows)


def test_a_strict_run_stops_at_the_first_and_keeps_what_came_before(tmp_path: Path) -> None:
    options = RunOptions(limit=3, results=tmp_path, strict=True)
    with pytest.raises(UserError, match=r"^broken on pocket image val-00000: 4 scores are not finite; check the weig"):
        run_cell("pocket-sd15", [Broken(name="broken")], "pocket", "standard", options)
    assert run_cell("pocket-sd15", [build_method("vanilla", "pocket-sd15")], "pocket", "standard", options)


def test_a_printed_run_says_how_many(results: Path, capsys: pytest.CaptureFixture[str]) -> None:

    for folder in (results / "runs/pocket-sd15").iterdir():
        (run,) = (folder / "pocket").iterdir()
        _print_classes(RunStore(run), results)
    printed = capsys.readouterr().out
    assert printed.count("not finite") == 1
    assert "  12 scores that are not finite, in 3 images" in printed


def winners(classes: list[float], background: float, rule: BackgroundRule = "offset", **choices: object) -> list[int]:
    """What wins a pixel at every threshold, of classes 1, 2, …"""
    scores = ClassScores(torch.tensor(classes)[:, None, None], torch.tensor([[background]]))
    thresholds = (-0.5, 0.0, 0.5) if rule != "none" else (0.0,)
    background_id = 0 if rule != "none" else None
    decision = Decision(9, background_id, rule, thresholds, "excluded", **choices)  # pyright: ignore[reportArgumentType]
    won = decide_pixels(scores, tuple(range(1, len(classes) + 1)), decision, (1, 1))
    return won.label_maps(decision)[:, 0, 0].tolist()


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_score_that_is_not_finite_wins_no_pixel(bad: float) -> None:
    lowest = {"undefined": "lowest"}
    assert winners([bad, 0.4], 0.3, **lowest) == [2, 2, 0]
    assert winners([0.4, bad], 0.3, **lowest) == [1, 1, 0]
    assert winners([0.4], bad, **lowest) == [1, 1, 1]
    assert winners([bad], 0.3, **lowest) == [0, 0, 0]
    assert winners([bad, 0.4], 0.0, "none", **lowest) == [2]
    assert winners([bad, bad], 0.0, "none", **lowest) == [NO_CLASS]


def test_where_published_the_first_nan_wins() -> None:
    assert winners([nan, 0.4], 0.3) == [1, 1, 1]
    assert winners([0.4, nan], 0.3) == [2, 2, 2]
    assert winners([0.4], nan) == [0, 0, 0]


@pytest.mark.parametrize(
    ("protocol_name", "rule"),
    [("standard", "lowest"), ("standard-full", "lowest"), ("goca", "wins"), ("seg4diff", "wins")],
)
def test_only_published_protocols_let_nan_win(protocol_name: str, rule: str) -> None:
    assert build_task("pocket", build("protocol", protocol_name), RunOptions()).decision.undefined == rule


def test_a_class_that_was_cut_wins_nothing_and_is_counted() -> None:
    backbone = build_backbone("pocket-sd15")
    task = build_task("pocket", build("protocol", "standard"), RunOptions())
    sample = task.dataset[0]

    everything = np.arange(sample.label.size).reshape(sample.label.shape) % len(task.dataset.classes)
    crowded = replace(sample, label=everything.astype(np.uint8), caption=None)
    vanilla, described = (build_method(name, "pocket-sd15") for name in ("vanilla", "goca-described"))
    (scored,) = score(backbone, task, [vanilla, described], [crowded], image_noise(backbone, task, 0))
    size = (sample.label.shape[0], sample.label.shape[1])
    cut: set[int] = set()
    for answer in reversed(scored.by_method):
        assert answer.cut_classes > 0
        assert answer.not_finite == 0
        cut = {id for id, gone in zip(answer.prompts.class_ids, answer.cut, strict=True) if gone}
        won = decide_pixels(answer.scores, answer.prompts.class_ids, task.decision, size)
        assert not cut & {*won.label_maps(task.decision).ravel().tolist()}
    published = replace(task.decision, undefined="wins")
    vanilla_answer = scored.by_method[0]
    won = decide_pixels(vanilla_answer.scores, vanilla_answer.prompts.class_ids, published, size)
    assert cut & {*won.label_maps(published).ravel().tolist()}
