from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from segscale.bench.evaluation.evaluate import evaluate
from segscale.bench.evaluation.pixel_counts import Areas
from segscale.bench.report.tables import (
    BEST_NOTE,
    evaluate_runs,
    evaluate_store,
    leaderboard,
    long_table,
    notes,
    scaling_table,
)
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.plan import RunOptions, build_method
from segscale.bench.segmenter import load
from segscale.bench.tasks.protocol import Protocol
from segscale.datasets.dataset import Dataset, Sample
from segscale.methods.method import ClassScores
from torch import tensor

from segscale.errors import UserError
from segscale.registry import build

PROTOCOLS = ("standard", "goca", "seg4diff", "seg4diff-unsupervised")


class Three(Dataset):
    """Three classes; background: id of the class that means "none of them", or None."""

    name, split = "three", "val"
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


def areas_of(protocol: str, background: int | None, ids: tuple[int, ...] = (1, 2)) -> tuple[Protocol, Areas]:
    data = Three(background)
    rules = build("protocol", protocol).resolved(data)
    scores = ClassScores(tensor([[SCORES.get(i, [0.7, 0, 0, 0])] for i in ids]), tensor(BACKGROUND))
    return rules, evaluate(scores, ids, data[0], rules, data)


def at_zero(rules: Protocol, areas: Areas) -> list[list[int]]:
    index = rules.thresholds.index(0.0)
    return [areas.intersection[index].tolist(), areas.prediction[index].tolist(), areas.label.tolist()]


def test_standard_ignores_void() -> None:
    assert at_zero(*areas_of("standard", 0)) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_goca_counts_void_as_background() -> None:
    rules, areas = areas_of("goca", 0)
    assert at_zero(rules, areas) == [[2, 1, 1], [2, 1, 1], [2, 1, 1]]
    assert areas.intersection.shape == (9, 3)


@pytest.mark.parametrize("family", ["unet", "dit", "flux"])
def test_goca_compares_with_the_published_label_maps(goca_parity: Path, family: str) -> None:
    tensors = load_file(goca_parity / f"method-{family}.goca.safetensors")
    assert (tensors["eval/label_raw"] == 255).any()
    truth = build("protocol", "goca").truth(tensors["eval/label_raw"], Three(0))
    assert np.array_equal(truth, tensors["eval/label"])


def test_goca_gives_a_dataset_without_background_one() -> None:
    rules, areas = areas_of("goca", None, (0, 1, 2))
    assert rules.class_names(Three(None)) == ("sky", "dog", "cat", "background")
    assert at_zero(rules, areas) == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_without_a_background_class_only_classes_compete() -> None:
    rules, areas = areas_of("standard", None, (1, 2))
    assert (rules.background_rule, rules.thresholds) == ("none", (0.0,))
    # Channel 1 takes the first pixel, a tie at 0; the void pixel does not count.
    assert at_zero(rules, areas) == [[0, 1, 1], [0, 2, 1], [1, 1, 1]]


def test_seg4diff_does_not_score_background_but_lets_it_win() -> None:
    rules, areas = areas_of("seg4diff", 0, (0, 1, 2))
    assert at_zero(rules, areas) == [[0, 1, 1], [0, 1, 1], [0, 1, 1]]
    data = Three(0)
    # Background stands for the map that is high on the dog.
    scores = ClassScores(tensor([[[0.0, 0.9, 0, 0]], [[0.0, 0.5, 0, 0]], [[0.0, 0, 0.9, 0]]]), tensor(BACKGROUND))
    assert at_zero(rules, evaluate(scores, (0, 1, 2), data[0], rules, data)) == [[0, 0, 1], [1, 0, 1], [0, 1, 1]]


def test_background_takes_part_where_it_is_a_class_like_others() -> None:
    data = Three(0)
    present = {name: build("protocol", name).resolved(data).present_classes(data[0], data) for name in PROTOCOLS}
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
    assert standard.rules == replace(standard, threshold="best", averaging="every-class").rules
    for changes in (
        {"absent": "zero"},
        {"void": "background"},
        {"background_scored": False},
        {"background_rule": "max"},
    ):
        assert standard.rules != replace(standard, **changes).rules


def test_goca_tables_read_the_best_threshold_and_mark_it(tmp_path: Path) -> None:
    (store,) = run_methods(
        "pocket-sd15", [build_method("vanilla", "pocket-sd15")], "pocket", "goca", RunOptions(limit=4, results=tmp_path)
    )
    frame = store.load()
    parts = [np.stack(frame[name].tolist()).sum(0) for name in ("intersection", "prediction", "label")]
    intersection, prediction = (part.reshape(9, 13) for part in parts[:2])
    curve = (intersection / (1e-8 + prediction + parts[2] - intersection)).mean(1)
    one = evaluate_store(store)
    assert one.threshold == one.protocol.thresholds[int(curve.argmax())]
    assert one.score.miou == pytest.approx(curve.max())
    rows = long_table(evaluate_runs(tmp_path))
    assert rows["threshold_from"].tolist() == ["best"]
    assert BEST_NOTE in notes(rows)
    assert f"{100 * curve.max():.1f}* [" in scaling_table(rows)
    assert BEST_NOTE in leaderboard(rows)
    run_methods(
        "pocket-sd15",
        [build_method("vanilla", "pocket-sd15")],
        "pocket",
        "standard",
        RunOptions(limit=2, results=tmp_path / "fixed"),
    )
    fixed = long_table(evaluate_runs(tmp_path / "fixed"))
    assert BEST_NOTE not in notes(fixed)
    assert "*" not in scaling_table(fixed)


def test_a_threshold_chosen_with_labels_is_none_for_pictures() -> None:
    with pytest.raises(UserError, match="goca chooses its threshold"):
        load(protocol="goca")
