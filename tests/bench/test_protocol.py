from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from torch import tensor

from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.markdown import leaderboard, scaling_table
from segscale.bench.report.tables import BEST_NOTE, long_table, notes
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.segmenter import load
from segscale.bench.tasks.task import Task
from segscale.datasets.dataset import Dataset, Sample
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.methods.method import ClassScores
from segscale.registry import build

from .cells import evaluated, run_cell

PROTOCOLS = ("standard", "goca", "seg4diff", "seg4diff-unsupervised")


class Three(Dataset):
    """Three classes; background: id of the class that means "none of them", or None."""

    name, split = "three", "val"
    benchmark = "three"
    classes = ("sky", "dog", "cat")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    ids = ("one",)

    def __init__(self, background: int | None) -> None:
        self.background = background  # pyright: ignore[reportAttributeAccessIssue]

    def __getitem__(self, index: int) -> Sample:
        label = np.array([[0, 1, 2, 255]], np.uint8)
        return Sample(self.ids[index], Image.new("RGB", (4, 1)), label)


SCORES = {1: [0.0, 0.5, 0.5, 0.5], 2: [0.0, 0.0, 0.9, 0.0]}
BACKGROUND = [[0.6, 0.0, 0.0, 0.8]]

VANILLA = build_method("vanilla", "pocket-sd15")


def task_of(protocol_name: str, background: int | None) -> Task:
    return Task.of(build("protocol", protocol_name), Three(background))


def counted(protocol_name: str, background: int | None, ids: tuple[int, ...] = (1, 2)) -> tuple[Task, PixelCounts]:
    task = task_of(protocol_name, background)
    scores = ClassScores(tensor([[SCORES.get(i, [0.7, 0, 0, 0])] for i in ids]), tensor(BACKGROUND))
    return task, task.count(scores, ids, task.dataset[0])


def at_zero(task: Task, counts: PixelCounts) -> list[list[int]]:
    index = task.protocol.thresholds.index(0.0)
    return [counts.intersection[index].tolist(), counts.predicted_area[index].tolist(), counts.label_area.tolist()]


def test_standard_ignores_void() -> None:
    assert at_zero(*counted("standard", 0)) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_goca_counts_void_as_background() -> None:
    task, counts = counted("goca", 0)
    assert at_zero(task, counts) == [[2, 1, 1], [2, 1, 1], [2, 1, 1]]
    assert counts.intersection.shape == (9, 3)


@pytest.mark.parametrize("family", ["unet", "dit", "flux"])
def test_goca_compares_with_the_published_label_maps(goca_parity: Path, family: str) -> None:
    tensors = load_file(goca_parity / f"method-{family}.goca.safetensors")
    assert (tensors["eval/label_raw"] == 255).any()
    target = task_of("goca", 0).target_label(tensors["eval/label_raw"])
    assert np.array_equal(target, tensors["eval/label"])


def test_goca_gives_a_dataset_without_background_one() -> None:
    task, counts = counted("goca", None, (0, 1, 2))
    assert task.class_names == ("sky", "dog", "cat", "background")
    assert at_zero(task, counts) == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_without_a_background_class_only_classes_compete() -> None:
    task, counts = counted("standard", None, (1, 2))
    assert (task.protocol.background_rule, task.protocol.thresholds) == ("none", (0.0,))
    # Channel 1 takes the first pixel, a tie at 0; the void pixel does not count.
    assert at_zero(task, counts) == [[0, 1, 1], [0, 2, 1], [1, 1, 1]]


def test_seg4diff_does_not_score_background_but_lets_it_win() -> None:
    task, counts = counted("seg4diff", 0, (0, 1, 2))
    assert at_zero(task, counts) == [[0, 1, 1], [0, 1, 1], [0, 1, 1]]
    # Background stands for the map that is high on the dog.
    scores = ClassScores(tensor([[[0.0, 0.9, 0, 0]], [[0.0, 0.5, 0, 0]], [[0.0, 0, 0.9, 0]]]), tensor(BACKGROUND))
    assert at_zero(task, task.count(scores, (0, 1, 2), task.dataset[0])) == [[0, 0, 1], [1, 0, 1], [0, 1, 1]]


def test_background_takes_part_where_it_is_a_class_like_others() -> None:
    tasks = {name: task_of(name, 0) for name in PROTOCOLS}
    present = {name: task.present_classes(task.dataset[0]) for name, task in tasks.items()}
    assert present["standard"] == present["goca"] == (1, 2)
    assert present["seg4diff"] == (0, 1, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.07},
        {"thresholds": (0.1, 0.0), "threshold": 0.0},
        {"background_rule": "exact"},
        {"matching": "row"},
        {"matching": "row", "evaluated_edges": (640, 2560)},
    ],
)
def test_rules_that_contradict_themselves_are_errors(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(build("protocol", "standard"), **changes)


def test_what_a_table_chooses_is_no_part_of_a_run() -> None:
    standard = build("protocol", "standard")
    assert standard.stored_rules == replace(standard, threshold="best", averaging="every-class").stored_rules
    identity = Task.of(standard, Three(0)).identity
    assert Task.of(replace(standard, threshold="best", averaging="every-class"), Three(0)).identity == identity
    for changes in (
        {"absent": "zero"},
        {"void": "background"},
        {"background_scored": False},
        {"background_rule": "max"},
    ):
        assert standard.stored_rules != replace(standard, **changes).stored_rules
        assert Task.of(replace(standard, **changes), Three(0)).identity != identity


def test_goca_tables_read_the_best_threshold_and_mark_it(tmp_path: Path) -> None:
    (store,) = run_cell("pocket-sd15", [VANILLA], "pocket", "goca", RunOptions(limit=4, results=tmp_path))
    counts = store.load(store.read())
    intersection, prediction = counts.intersection.sum(0), counts.predicted_area.sum(0)
    assert intersection.shape == (9, 13)
    curve = (intersection / (1e-8 + prediction + counts.label_area.sum(0) - intersection)).mean(1)
    run = evaluated(store)
    assert run.threshold == run.plan.task.protocol.thresholds[int(curve.argmax())]
    assert run.score.miou == pytest.approx(curve.max())
    rows = long_table(evaluate_runs(tmp_path))
    assert rows["threshold_from"].tolist() == ["best"]
    assert BEST_NOTE in notes(rows)
    assert f"{100 * curve.max():.1f}*‡" in scaling_table(rows)
    assert BEST_NOTE in leaderboard(rows)
    run_cell("pocket-sd15", [VANILLA], "pocket", "standard", RunOptions(limit=2, results=tmp_path / "fixed"))
    fixed = long_table(evaluate_runs(tmp_path / "fixed"))
    assert BEST_NOTE not in notes(fixed)
    assert "*" not in scaling_table(fixed)


def test_a_threshold_chosen_with_labels_is_none_for_pictures() -> None:
    with pytest.raises(UserError, match="goca chooses its threshold"):
        load(protocol="goca")


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a config that varies the pocket scenes."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "fewer-scenes.py").write_text('_base_ = ["segscale::datasets/pocket.py"]\nsize = 20\n')
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path))
    return "fewer-scenes"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_variant_of_a_dataset_keeps_what_protocols_say_of_it(protocol: str, variant: str) -> None:
    rules = build("protocol", protocol)
    published, varied = (build_task(name, rules, RunOptions()) for name in ("pocket", variant))
    assert varied.protocol == published.protocol
    assert varied.names == published.names
    assert varied.background_id == published.background_id
    assert varied.identity.protocol == published.identity.protocol
    assert (varied.dataset.name, len(varied.dataset)) == (variant, 20)
