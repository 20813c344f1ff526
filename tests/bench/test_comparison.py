"""Comparisons of stored runs, on counts whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segscale.bench.commands.main import main
from segscale.bench.evaluation.intervals import NoInterval
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.report.comparison import (
    Comparison,
    class_differences,
    class_number_differences,
    compare,
    image_outcomes,
    not_worse_than_best,
    size_differences,
)
from segscale.bench.report.comparison_tables import comparison_details, comparison_table
from segscale.bench.report.evaluated import EvaluatedRun, evaluate_run
from segscale.bench.report.markdown import method_matrix
from segscale.bench.report.pairs import paired, select, select_one
from segscale.bench.report.tables import long_table
from segscale.bench.report.thresholds import Thresholds
from segscale.bench.runs.identity import RunPlan
from segscale.bench.runs.store import RunStore
from segscale.errors import UserError

from .stored_runs import PLAN, image_record, new_run

IMAGES = 40
LABEL = np.array([[500, 300, 0], [900, 0, 15], [0, 700, 100], [400, 300, 200]] * (IMAGES // 4))
"""Areas of background and two classes."""


def stored(folder: Path, right: np.ndarray, name: str = "m", seed: int = 0, images: int = IMAGES) -> EvaluatedRun:
    """A run of the method ``name`` whose pixels are right in the shares ``right`` of each image."""
    plan: RunPlan = replace(PLAN, method=replace(PLAN.method, name=name), seed=seed)
    store = RunStore(folder / "runs" / "b" / name / "d" / plan.run_id)
    run = replace(new_run(plan), split_images=IMAGES)
    names = [f"image-{number:02d}" for number in range(IMAGES)]
    store.start(run, names)
    label = LABEL[:images]
    intersection = np.repeat((label * right[:images, None]).astype(np.int64)[:, None], 2, axis=1)
    predicted = np.repeat(label[:, None], 2, axis=1)
    store.append(
        [
            image_record(image, PixelCounts(*counts), int(counts[2].sum()))
            for image, *counts in zip(names, intersection, predicted, label, strict=False)
        ]
    )
    return evaluate_run(store, Thresholds(folder))


@pytest.fixture
def shares() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.4, 0.8, IMAGES)


@pytest.fixture
def pair(tmp_path: Path, shares: np.ndarray) -> tuple[EvaluatedRun, EvaluatedRun]:
    """The first run is better on all images but the first five, where both are equal."""
    better = shares + np.where(np.arange(IMAGES) < 5, 0, 0.1)
    return stored(tmp_path, better, "better"), stored(tmp_path, shares, "worse")


def only(pair: tuple[EvaluatedRun, EvaluatedRun]) -> Comparison:
    (comparison,) = compare([pair])
    return comparison


def test_a_run_against_itself_is_exactly_nothing(pair: tuple[EvaluatedRun, EvaluatedRun]) -> None:
    itself = only((pair[0], pair[0]))
    assert itself.difference.value == 0
    assert itself.difference.bounds == (0, 0)
    assert itself.corrected_p == 1
    assert image_outcomes(itself).ties == IMAGES
    assert all(part.difference.value == 0 for part in size_differences(itself) + class_number_differences(itself))


def test_a_difference_is_that_of_the_tables_and_has_its_sources(pair: tuple[EvaluatedRun, EvaluatedRun]) -> None:
    comparison = only(pair)
    run, reference = pair
    assert comparison.difference.value == pytest.approx(run.score.miou - reference.score.miou)
    assert comparison.is_significant
    outcomes = image_outcomes(comparison)
    assert (outcomes.wins, outcomes.ties, outcomes.losses) == (IMAGES - 5, 5, 0)
    classes = {row.name: row.iou - row.reference_iou for row in class_differences(comparison)}
    assert [*classes.values()] == sorted(classes.values(), reverse=True)
    assert np.mean([*classes.values()]) == pytest.approx(comparison.difference.value)


def test_areas_are_parted_by_their_share_and_images_by_their_classes(pair: tuple[EvaluatedRun, EvaluatedRun]) -> None:
    comparison = only(pair)
    quarter = IMAGES // 4
    sizes = {part.name: part.amount for part in size_differences(comparison)}
    # 15 of 915 pixels are small, 100 of 800 and all of the other class are large; background is no object.
    assert sizes == {"small": quarter, "large": 5 * quarter}
    numbers = {part.name: part.amount for part in class_number_differences(comparison)}
    assert numbers == {"1": 2 * quarter, "2": 2 * quarter}
    small = next(part for part in size_differences(comparison) if part.name == "small")
    intersections = [run.counts.at_threshold(run.threshold).intersection[1::4, 2].sum() for run in pair]
    unions = [2 * 15 * quarter - right for right in intersections]
    expected = intersections[0] / unions[0] - intersections[1] / unions[1]
    assert small.difference.value == pytest.approx(expected)


def test_only_images_of_both_runs_count(tmp_path: Path, shares: np.ndarray) -> None:
    few = stored(tmp_path, shares, "few", images=12)
    many = stored(tmp_path, shares, "many")
    comparison = only((few, many))
    assert comparison.images == 12
    assert comparison.difference.value == 0


def test_many_comparisons_are_corrected_and_the_smallest_p_the_most(tmp_path: Path, shares: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    runs = [stored(tmp_path, shares + rng.normal(0.01, 0.03, IMAGES), name) for name in "abcd"]
    reference = stored(tmp_path, shares, "reference")
    comparisons = compare([(run, reference) for run in runs])
    ranked = sorted(comparisons, key=lambda comparison: comparison.difference.p_value or 0)
    assert ranked[0].difference.p_value is not None
    assert ranked[0].corrected_p == pytest.approx(4 * ranked[0].difference.p_value)
    assert "corrected for 4 comparisons" in comparison_table(comparisons)


def test_bold_is_the_best_and_what_is_not_told_from_it(tmp_path: Path, shares: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 0.05, IMAGES)
    runs = [
        stored(tmp_path, shares + 0.1, "best"),
        stored(tmp_path, shares + 0.099 + noise - noise.mean(), "near"),
        stored(tmp_path, shares - 0.1, "far"),
    ]
    assert not_worse_than_best(runs) == [True, True, False]
    (line,) = [line for line in method_matrix(long_table(runs)).splitlines() if "| far" in line]
    assert "**" not in line
    assert method_matrix(long_table(runs)).count("**") == 4
    assert "**" not in method_matrix(long_table(runs[:1]))


def test_what_was_taught_with_masks_is_never_bold(tmp_path: Path, shares: np.ndarray) -> None:
    runs = [stored(tmp_path, shares + gain, f"m{gain}") for gain in (0.2, 0.1, 0.0)]
    backbone = replace(runs[0].plan.backbone, options={"training": "masks"})
    runs[0] = replace(runs[0], run=replace(runs[0].run, plan=replace(runs[0].plan, backbone=backbone)))
    table = long_table(runs).sort_values("method")
    assert table["best_of_backbone"].tolist() == table["best_of_task"].tolist() == [False, True, False]


def test_without_interval_only_the_best_is_bold(tmp_path: Path, shares: np.ndarray) -> None:
    runs = [stored(tmp_path, shares + gain, f"m{gain}", images=4) for gain in (0.0, 0.1)]
    assert isinstance(only((runs[1], runs[0])).difference.interval, NoInterval)
    assert not_worse_than_best(runs) == [False, True]


def renamed(run: EvaluatedRun, **fields: str) -> EvaluatedRun:
    """The same run of another method or protocol."""
    plan = run.plan
    if "protocol" in fields:
        plan = replace(plan, task=replace(plan.task, protocol=replace(plan.task.protocol, name=fields["protocol"])))
    if "method" in fields:
        plan = replace(plan, method=replace(plan.method, name=fields["method"]))
    return replace(run, run=replace(run.run, plan=plan))


def test_a_name_of_method_and_protocol_is_first_the_one_then_the_other(pair: tuple[EvaluatedRun, EvaluatedRun]) -> None:
    runs = [renamed(pair[0], method="goca", protocol=protocol) for protocol in ("goca", "standard")]
    assert select(runs, "goca/goca").runs == (runs[0],)
    assert select(runs, "goca/standard").runs == (runs[1],)
    with pytest.raises(UserError, match="names two of methods"):
        select(runs, "goca/goca/goca")
    variant = replace(runs[0].plan, method=replace(runs[0].plan.method, attention="cross"))
    shown = [replace(runs[0], run=replace(runs[0].run, plan=variant))]
    assert shown[0].plan.method.label == "goca (cross-attention)"
    assert select(shown, "goca").fields == {"method"}


def test_runs_that_count_other_classes_have_no_details(pair: tuple[EvaluatedRun, EvaluatedRun]) -> None:
    other = replace(pair[1], run=replace(pair[1].run, classes=(*pair[1].run.classes[1:], "another")))
    details = comparison_details(only((pair[0], other)))
    assert details == "By area and class nothing is told: the two runs count other classes."


def test_names_select_runs_and_what_is_not_named_pairs_them(tmp_path: Path, shares: np.ndarray) -> None:
    runs = [stored(tmp_path, shares + seed / 100, name, seed) for name in "mn" for seed in (0, 1)]
    pairs = paired(select(runs, "n"), select(runs, "b/m"))
    assert [(run.plan.seed, other.plan.seed) for run, other in pairs] == [(0, 0), (1, 1)]
    assert "on average over 2 seeds, standard deviation 0.0" in comparison_table(compare(pairs))
    with pytest.raises(UserError, match="no stored run has 'o'"):
        select(runs, "o")
    with pytest.raises(UserError, match="no run of m can be set against one of b/m"):
        paired(select(runs, "m"), select(runs, "b/m"))


def test_runs_of_other_captions_or_weights_are_no_pair(tmp_path: Path, shares: np.ndarray) -> None:
    plain = [stored(tmp_path, shares, name) for name in "mn"]

    def with_captions(run: EvaluatedRun) -> EvaluatedRun:
        dataset = replace(run.plan.task.dataset, options={"captions": "ab12cd"})
        plan = replace(run.plan, task=replace(run.plan.task, dataset=dataset))
        return replace(run, run=replace(run.run, plan=plan, run_id=plan.run_id))

    def with_weights(run: EvaluatedRun) -> EvaluatedRun:
        plan = replace(run.plan, backbone=replace(run.plan.backbone, weights="others"))
        return replace(run, run=replace(run.run, plan=plan, run_id=plan.run_id))

    for other in (with_captions, with_weights):
        runs = [*plain, *map(other, plain)]
        pairs = paired(select(runs, "n"), select(runs, "m"))
        assert [(run.run.run_id, reference.run.run_id) for run, reference in pairs] == [
            (runs[1].run.run_id, runs[0].run.run_id),
            (runs[3].run.run_id, runs[2].run.run_id),
        ]


def test_one_of_several_runs_is_named_by_its_id(tmp_path: Path, shares: np.ndarray) -> None:
    runs = [stored(tmp_path, shares, "m", seed) for seed in (0, 1)]
    with pytest.raises(UserError, match="2 stored runs are b/m") as caught:
        select_one(runs, "b/m")
    assert all(run.run.run_id in caught.value.hint for run in runs)
    assert select_one(runs, runs[1].run.run_id[:8]) is runs[1]
    by_id = [select(runs, run.run.run_id) for run in runs]
    assert [(run.plan.seed, other.plan.seed) for run, other in paired(*by_id)] == [(0, 1)]


def test_the_command_prints_the_difference_and_where_it_comes_from(
    tmp_path: Path, pair: tuple[EvaluatedRun, EvaluatedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", "better", "worse", "--results", str(tmp_path)])
    printed = capsys.readouterr().out
    points = 100 * (pair[0].score.miou - pair[1].score.miou)
    assert f"| b / better | b / worse   | d val | 40       | +{points:.1f} [" in printed
    assert "| 35 / 5 / 0 " in printed
    for title in ("By area", "By the number of classes", "By class"):
        assert title in printed
