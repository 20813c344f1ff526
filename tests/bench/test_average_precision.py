"""Average precision from histograms: known answers, sums, and what parts refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from segscale.bench.evaluation.score_counting import score_histograms
from segscale.bench.evaluation.score_histograms import (
    BINS,
    MOST_SCORES,
    ScoreHistograms,
    average_precision,
    mean_average_precision,
    summed,
)
from segscale.bench.mmseg import ForeignDataset
from segscale.bench.report.markdown import leaderboard
from segscale.bench.report.tables import long_table, notes, table_rows
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.parts import PartError, PartRules, as_table, histograms_of, read_part, write_part
from segscale.bench.tasks.task import Task
from segscale.datasets.dataset import Sample
from segscale.methods.method import ClassScores
from segscale.registry import build

from .cells import evaluated, run_named
from .stored_runs import record


def precision_over_recall(scores: NDArray[np.float64], positive: NDArray[np.bool_], total: int) -> float:
    """By definition: precision at every distinct score, weighed by how many positives it adds."""
    result = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        result += positive[taken].mean() * positive[scores == threshold].sum() / total
    return result


def counted(maps: NDArray[np.float32], label: NDArray[np.uint8], normalised: bool = True) -> ScoreHistograms:
    return score_histograms(torch.from_numpy(maps), tuple(range(1, len(maps) + 1)), label, normalised)


def of_all(histograms: list[ScoreHistograms], labels: list[NDArray[np.uint8]], classes: int) -> NDArray[np.float64]:
    area = np.sum([np.bincount(label[label != 255], minlength=classes) for label in labels], 0)
    return average_precision(summed(histograms, classes), area)


@pytest.mark.parametrize("normalised", [True, False])
def test_it_is_that_of_the_definition(normalised: bool) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, (20, 30)).astype(np.uint8) for _ in range(3)]
    ranks = [rng.integers(0, BINS, (2, 20, 30)) for _ in range(3)]
    for label, rank in zip(labels, ranks, strict=True):
        label[0] = 255
        rank[0] += 20 * (label == 1)
        rank.clip(0, BINS - 1, out=rank)
    # The middle of every bin, so that scores and bins have the same order.
    scores = [(rank + 0.5) / BINS for rank in ranks]
    given = [(score if normalised else 10 ** (6 * score - 6)).astype(np.float32) for score in scores]
    each = [counted(maps, label, normalised) for maps, label in zip(given, labels, strict=True)]
    found = of_all(each, labels, 3)
    assert np.isnan(found[0])
    for id in (1, 2):
        flat = np.concatenate([rank[id - 1][label != 255] for rank, label in zip(ranks, labels, strict=True)])
        positive = np.concatenate([(label == id)[label != 255] for label in labels])
        assert found[id] == pytest.approx(precision_over_recall(flat, positive, int(positive.sum())))
    assert found[1] > found[2]


def test_known_answers() -> None:
    label = np.array([[1, 1, 0, 0]], np.uint8)
    perfect = np.array([[[0.9, 0.8, 0.2, 0.1]]], np.float32)
    assert of_all([counted(perfect, label)], [label], 2)[1] == 1.0
    # One positive first, one negative between, one positive: (1 + 2 / 3) / 2.
    mixed = np.array([[[0.9, 0.2, 0.5, 0.1]]], np.float32)
    assert of_all([counted(mixed, label)], [label], 2)[1] == pytest.approx((1 + 2 / 3) / 2)
    constant = np.full((1, 1, 4), 0.5, np.float32)
    assert of_all([counted(constant, label)], [label], 2)[1] == 0.5
    # In another image the class has no score: its two pixels are never found.
    assert of_all([counted(perfect, label), ScoreHistograms.none()], [label, label], 2)[1] == 0.5


def test_the_mean_without_each_image_is_that_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscale.bench.evaluation.score_histograms.TOGETHER", 3)
    rng = np.random.default_rng(2)
    labels = list(rng.choice([0, 1, 2, 255], (8, 6, 6)).astype(np.uint8))
    labels[4][0] = 3  # in this image alone
    each = [counted(rng.random((3, 6, 6)).astype(np.float32), label) for label in labels]
    # Both images are labelled, and one has no score at all, the other none of class 1.
    each[0] = ScoreHistograms.none()
    each[7] = ScoreHistograms(each[7].class_ids[1:], each[7].pixels[1:])
    area = np.stack([np.bincount(label[label != 255], minlength=4) for label in labels])
    found, precision = mean_average_precision(each, area), of_all(each, labels, 4)
    assert found.value == pytest.approx(np.nanmean(precision))
    for left_out in range(8):
        rest = [place for place in range(8) if place != left_out]
        others = of_all([each[place] for place in rest], [labels[place] for place in rest], 4)
        assert found.without[left_out] == pytest.approx(np.nanmean(others))
        others[3] = precision[3] if left_out == 4 else others[3]
        assert found.without_but_same_classes[left_out] == pytest.approx(np.nanmean(others))


def test_without_any_score_there_is_no_mean() -> None:
    found = mean_average_precision([ScoreHistograms.none()] * 2, np.ones((2, 3), np.int64))
    assert np.isnan([found.value, *found.without, *found.without_but_same_classes]).all()


def test_images_add_up_exactly_in_any_order() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, (3, 8, 8)).astype(np.uint8)
    each = [counted(rng.random((2, 8, 8)).astype(np.float32), one) for one in label]
    assert np.array_equal(summed(each, 3), summed(each[::-1], 3))
    assert summed(each, 3)[1:].sum() == 2 * label.size


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(
    ("score", "place"),
    [(np.nan, 0), (-np.inf, 0), (-1.0, 0), (0.0, 0), (1.0, BINS - 1), (2.0, BINS - 1)],
)
def test_scores_outside_the_range_and_no_numbers_have_a_bin(score: float, place: int, normalised: bool) -> None:
    pixels = counted(np.full((1, 1, 1), score, np.float32), np.zeros((1, 1), np.uint8), normalised).pixels
    assert np.argwhere(pixels).tolist() == [[0, 0, place]]


def test_parts_keep_histograms_and_refuse_others(tmp_path: Path) -> None:
    pixels = np.zeros((1, 2, BINS), np.int64)
    pixels[0, 1, 5] = 1  # one pixel of class 0 is labelled
    pixels[0, 0, 7] = 9
    good = replace(record("a"), histograms=ScoreHistograms(np.array([0]), pixels))
    rules = PartRules("run", thresholds=2, classes=3)

    def read(one: ScoreHistograms) -> ScoreHistograms:
        path = tmp_path / "part.parquet"
        with path.open("wb") as file:
            write_part(as_table([replace(good, histograms=one)]), "run", file)
        return histograms_of(read_part(path, rules))[0]

    back = read(good.histograms)
    assert np.array_equal(back.pixels, pixels)
    assert back.class_ids.tolist() == [0]
    for ids, changed, message in (
        ([0], 2 * pixels, "scores are of other pixels"),
        ([7], pixels, "a score is of no class"),
        ([0], -pixels, "a number of pixels is negative"),
        ([0, 1], pixels, "score_pixels has another length"),
    ):
        with pytest.raises(PartError, match=message):
            read(ScoreHistograms(np.array(ids), changed))


def test_a_run_stores_what_ranks_its_pixels(tmp_path: Path) -> None:
    (store,) = run_named("pocket-sd15", ["vanilla"], "pocket", "standard", RunOptions(limit=4, results=tmp_path))
    run = evaluated(store)
    labelled = run.counts.label_area.sum(0) > 0
    assert np.isnan(run.class_ap[0])
    assert np.array_equal(~np.isnan(run.class_ap[1:]), labelled[1:])
    assert long_table([run])["mean_ap"].tolist() == [pytest.approx(100 * np.nanmean(run.class_ap))]
    (row,) = table_rows(long_table([run]))
    assert "classes labelled in fewer than 5 images" in row["mean_ap_no_interval"]
    for histograms, area in zip(run.counts.histograms, run.counts.label_area, strict=True):
        assert np.array_equal(histograms.pixels[:, 1].sum(1), area[histograms.class_ids])
    half = run.counts.only(run.counts.images[:2])
    assert half.histograms == run.counts.histograms[:2]


@pytest.mark.parametrize(("protocol", "stored"), [("standard", 33), ("standard-full", 0)])
def test_an_image_that_shows_many_classes_keeps_what_ranks_its_pixels(protocol: str, stored: int) -> None:
    task = Task.of(build("protocol", protocol), ForeignDataset("ade20k"))
    ids = tuple(range(MOST_SCORES + 1))
    label = np.array([ids], np.uint8)
    right = torch.eye(len(ids))[:, None]
    sample = Sample("many", Image.new("RGB", (len(ids), 1)), label)
    histograms = task.score_histograms(ClassScores(right, torch.zeros(1, len(ids))), ids, sample, True)
    assert len(histograms.class_ids) == stored
    area = np.bincount(label.ravel(), minlength=150)
    assert not stored or np.nanmean(average_precision(summed([histograms], 150), area)) == 1


def test_clusters_have_no_average_precision(tmp_path: Path) -> None:
    options = RunOptions(limit=1, results=tmp_path)
    (store,) = run_named("pocket-sd3", ["seg4diff-masks"], "pocket", "seg4diff-unsupervised", options)
    run = evaluated(store)
    assert np.isnan(run.mean_ap.value)
    assert "mAP" not in "".join(notes(long_table([run])))
    assert "| -  " in leaderboard(long_table([run]))
