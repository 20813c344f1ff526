"""Boundary F-scores: known answers, properties, and the command on kept masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segscale.bench.commands.main import main
from segscale.bench.evaluation.boundary_counts import BoundaryCounts, count_boundaries, tolerance_pixels
from segscale.bench.evaluation.boundary_score import f_scores, score_boundaries
from segscale.bench.evaluation.intervals import Interval
from segscale.bench.runs import boundaries
from segscale.bench.runs.masks import mask_path, masked_images
from segscale.bench.runs.store import find_runs
from segscale.datasets.dataset import Digests
from segscale.datasets.labels import IGNORE_LABEL
from segscale.datasets.pocket import PocketScenes
from segscale.registry import build

from .test_data_check import make_voc

SIZE = (100, 100)
RADIUS = tolerance_pixels(SIZE, 0.75)
RING = 4 * 20 - 4
"""Pixels on the boundary of ``square``."""
Ids = NDArray[np.uint8]


def square(down: int = 0, right: int = 0) -> Ids:
    """A square of 20 pixels in the middle of background, moved."""
    ids = np.zeros(SIZE, np.uint8)
    ids[40 + down : 60 + down, 40 + right : 60 + right] = 1
    return ids


def patches(seed: int, ignored: bool = True) -> Ids:
    """A random map of four classes in patches, some of them ignored."""
    rng = np.random.default_rng(seed)
    values = [0, 1, 2, 3, IGNORE_LABEL] if ignored else [0, 1, 2, 3]
    coarse = rng.choice(np.array(values, np.uint8), (6, 8))
    return np.kron(coarse, np.ones((7, 7), np.uint8))


def counted(predicted: Ids, label: Ids, tolerance: float = RADIUS, classes: int = 4) -> BoundaryCounts:
    return count_boundaries(predicted, label, classes, (IGNORE_LABEL,), tolerance)


def values(counts: BoundaryCounts) -> list[list[int]]:
    return [getattr(counts, field.name).tolist() for field in fields(counts)]


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    assert tolerance_pixels((300, 400), 0.75) == pytest.approx(3.75)


def test_a_map_against_itself_is_exactly_1() -> None:
    counts = counted(square(), square(), tolerance=0)
    assert [part[1] for part in values(counts)] == [RING, RING, RING, RING]
    assert f_scores(counts)[:2].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("right", "matched"),
    [
        (1, RING),
        # Within 1.06 pixels: 19 of the upper and lower side, and of the left side the two beside these.
        (2, 19 + 19 + 2),
        (30, 0),
    ],
)
def test_a_moved_square_matches_where_it_is_within_the_tolerance(right: int, matched: int) -> None:
    counts = counted(square(right=right), square())
    assert [part[1] for part in values(counts)] == [RING, matched, RING, matched]
    assert f_scores(counts)[1] == pytest.approx(matched / RING)


def test_a_distance_of_exactly_the_tolerance_matches() -> None:
    moved = square(down=3)
    assert counted(moved, square(), tolerance=3).predicted_matched[1] == RING
    assert counted(moved, square(), tolerance=2.99).predicted_matched[1] < RING


def test_precision_and_recall_are_told_apart() -> None:
    predicted = square()
    predicted[10:20, 10:20] = 1
    counts = counted(predicted, square())
    small = 4 * 10 - 4
    assert [part[1] for part in values(counts)] == [RING + small, RING, RING, RING]
    precision = RING / (RING + small)
    assert f_scores(counts)[1] == pytest.approx(2 * precision / (1 + precision))


def test_a_class_without_boundary_has_no_score_and_one_that_is_missed_or_invented_has_0() -> None:
    label, predicted = square(), 2 * square()
    scores = f_scores(counted(predicted, label))
    assert scores[0] == 1.0
    assert scores[1:3].tolist() == [0.0, 0.0]
    assert np.isnan(scores[3])
    everywhere = np.ones(SIZE, np.uint8)
    assert np.isnan(f_scores(counted(everywhere, everywhere))).all()


def test_pixels_within_the_tolerance_of_ignored_ones_do_not_count() -> None:
    label = square()
    label[:, 58:] = IGNORE_LABEL
    counts = counted(label, label, tolerance=2)
    # Columns 40 to 55 are left: the left side, and 15 more pixels above and below.
    assert [part[1] for part in values(counts)] == [20 + 2 * 15] * 4
    surrounded = np.where(square() == 1, np.uint8(1), np.uint8(IGNORE_LABEL))
    assert not np.any(values(counted(square(), surrounded)))


def test_an_ignored_class_has_no_boundary() -> None:
    counts = count_boundaries(square(right=1), square(), 4, (0, IGNORE_LABEL), RADIUS)
    # Background that is predicted in the square is a boundary of the square, where it is far from what is unknown.
    assert values(counts) == [[0, 18, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    assert not np.any(values(count_boundaries(square(), square(), 4, (0, IGNORE_LABEL), RADIUS)))


@pytest.mark.parametrize("seed", range(8))
def test_properties(seed: int) -> None:
    predicted, label = patches(seed, ignored=False), patches(seed + 100)
    narrow, wide = counted(predicted, label), counted(predicted, label, 4.0)
    parts = [np.array(part) for part in values(narrow)]
    assert (parts[1] <= parts[0]).all()
    assert (parts[3] <= parts[2]).all()
    assert parts[0].any()
    assert parts[2].any()
    # What is predicted where the label is ignored changes nothing.
    scrambled = np.where(label == IGNORE_LABEL, patches(seed + 200, ignored=False), predicted)
    for tolerance, expected in ((RADIUS, narrow), (0.5, counted(predicted, label, 0.5)), (4.0, wide)):
        assert values(counted(scrambled, label, tolerance)) == values(expected)
    # Turned and mirrored, it is the same.
    assert values(counted(predicted.T[::-1], label.T[::-1])) == values(narrow)
    # Without ignored pixels the two sides change places with the maps, and a wider tolerance matches more.
    full = patches(seed + 100, ignored=False)
    there, back = values(counted(predicted, full)), values(counted(full, predicted))
    assert back == [*there[2:], *there[:2]]
    assert (counted(predicted, full, 4.0).label_matched >= there[3]).all()


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_all_distances(seed: int) -> None:
    """The distance transform in a box against every pair of pixels."""
    predicted, label = patches(seed, ignored=False), patches(seed + 50, ignored=False)
    counts = counted(predicted, label, 3.0)
    for id in range(4):
        edges = [np.argwhere(edge(ids, id)) for ids in (predicted, label)]
        distance = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=-1)
        assert counts.predicted_matched[id] == (distance.min(1) <= 3).sum()
        assert counts.label_matched[id] == (distance.min(0) <= 3).sum()


def edge(ids: Ids, id: int) -> NDArray[np.bool_]:
    """Pixels of a class beside one of another."""
    framed = np.pad(ids == id, 1, mode="edge")
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    return (ids == id) & ~np.logical_and.reduce(neighbours)


def drawn(images: int, seed: int) -> BoundaryCounts:
    """Images of three classes; the last one is in none."""
    rng = np.random.default_rng(seed)
    sides = []
    for share in (0.6, 0.8):
        pixels = rng.integers(1, 200, (images, 3))
        pixels[:, 2] = 0
        sides += [pixels, rng.binomial(pixels, share)]
    return BoundaryCounts(*sides)


def test_the_score_is_of_sums_over_images_in_any_order() -> None:
    counts = drawn(30, 0)
    score = score_boundaries(counts, "all", whole_split=True)
    predicted, found, label, hit = (np.array(part) for part in values(counts.total()))
    precision, recall = found[:2] / predicted[:2], hit[:2] / label[:2]
    expected = 2 * precision * recall / (precision + recall)
    assert [c.f_score.value for c in score.classes[:2]] == pytest.approx(expected)
    assert [c.precision.value for c in score.classes[:2]] == pytest.approx(precision)
    assert [c.recall.value for c in score.classes[:2]] == pytest.approx(recall)
    assert score.mean_f_score.value == pytest.approx(expected.mean())
    assert np.isnan(score.classes[2].f_score.value)
    every = score_boundaries(counts, "every-class", whole_split=True)
    assert every.mean_f_score.value == pytest.approx(expected.sum() / 3)
    order = np.random.default_rng(1).permutation(30)
    turned = BoundaryCounts(*(np.array(part)[order] for part in values(counts)))
    again = score_boundaries(turned, "all", whole_split=True)
    assert (again.mean_f_score, again.classes[:2]) == (score.mean_f_score, score.classes[:2])


def test_a_class_in_too_few_images_has_no_interval() -> None:
    counts = drawn(30, 0)
    counts.label[9:, 1] = 0
    counts.label_matched[9:, 1] = 0
    score = score_boundaries(counts, "all", whole_split=True)
    assert isinstance(score.classes[0].f_score.interval, Interval)
    assert isinstance(score.mean_f_score.interval, Interval)
    for estimate in (score.classes[1].f_score, score.classes[1].precision, score.classes[1].recall):
        assert estimate.no_interval == "class labelled in fewer than 10 images"
    part = score_boundaries(counts, "all", whole_split=False)
    assert part.mean_f_score.no_interval == "1 of 3 classes labelled in fewer than 5 images"


def test_images_without_a_class_leave_its_score_alone() -> None:
    counts = drawn(12, 0)
    more = BoundaryCounts(*(np.vstack([part, np.zeros((40, 3), np.int64)]) for part in values(counts)))
    score, again = (score_boundaries(each, "all", whole_split=True) for each in (counts, more))
    assert again.classes[:2] == score.classes[:2]


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    """Of the mean, and of a class; the truth is the F-score of the shares that images are drawn with."""
    truth, samples = 2 * 0.6 * 0.8 / (0.6 + 0.8), 300
    covered = np.zeros(2)
    for seed in range(samples):
        score = score_boundaries(drawn(25, seed), "all", whole_split=True)
        for place, estimate in enumerate((score.mean_f_score, score.classes[0].f_score)):
            low, high = estimate.bounds
            covered[place] += low <= truth <= high
    assert (covered / samples > 0.92).all()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boundary")
    main(["run", "--method", "vanilla", "--limit", "6", "--save-masks", "5", "--results", str(folder)])
    return folder


@pytest.fixture
def printed(results: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Exit status and lines of the command."""

    def run(*options: str) -> tuple[object, str]:
        capsys.readouterr()
        status: object = 0
        try:
            main(["boundary", "pocket-sd15/vanilla", "--results", str(results), *options])
        except SystemExit as end:
            status = end.code
        read = capsys.readouterr()
        return status, read.out or read.err

    return run


Printed = Callable[..., tuple[object, str]]


def test_the_command_prints_the_score_of_kept_masks_in_any_order_of_images(
    printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, text = printed()
    assert status == 0
    assert "5 images, within 0.75 % of the diagonal (" in text
    assert "| mean " in text
    monkeypatch.setattr(boundaries, "masked_images", lambda folder: masked_images(folder)[::-1])
    assert printed() == (status, text)
    assert printed("--tolerance", "5") != (status, text)


def test_masks_that_are_labels_score_100(printed: Printed, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build("dataset", "pocket")
    places = {id: place for place, id in enumerate(dataset.ids)}
    monkeypatch.setattr(boundaries, "read_label", lambda path, size, classes: dataset[places[path.stem]].label)
    status, text = printed("--tolerance", "0")
    assert status == 0
    rows = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert {row.split()[0].rstrip("‡") for row in rows} <= {"100.0", "-"}
    assert rows[-1].startswith("100.0")


def test_images_that_cannot_be_compared_are_named_and_left_out(
    printed: Printed, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store,) = find_runs(results)
    first, second, third, *_ = masked_images(store.folder)
    stored = store.made_of()
    changed = stored | {first: Digests(stored[first].image, "another")}
    del changed[second]
    monkeypatch.setattr("segscale.bench.runs.store.RunStore.made_of", lambda _: changed)
    path = mask_path(store.folder, third)
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    try:
        status, text = printed()
        assert status == 1
        assert "2 images, within" in text
        assert f"left out {first}: the label changed" in text
        assert f"left out {second}: the run does not store its numbers" in text
        assert f"left out {third}: {path} is damaged" in text
        monkeypatch.setattr("segscale.bench.runs.store.RunStore.made_of", lambda _: {})
        status, text = printed()
        assert status == 2
        assert "none of 5 masks can be compared with its label" in text
        assert f"; see: segscale verify {store.folder}" in text
    finally:
        path.write_bytes(whole)


def test_a_run_without_masks_is_one_line(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store,) = find_runs(results)
    (store.folder / "masks").rename(tmp_path / "masks")
    try:
        with pytest.raises(SystemExit) as end:
            main(["boundary", "pocket-sd15", "--results", str(results)])
    finally:
        (tmp_path / "masks").rename(store.folder / "masks")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2
    assert line.endswith(f"{store.folder} has no masks; keep some: segscale run --save-masks, with another --results")


def test_labels_that_are_read_by_other_rules_are_refused(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PocketScenes, "identity_options", property(lambda _: {"labels": "other"}))
    status, text = printed()
    assert status == 2
    assert "labels of pocket are read by other rules" in text


def test_moved_labels_are_found_and_maps_without_boundary_have_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_voc(tmp_path / "data", ["one", "two"])
    monkeypatch.chdir(tmp_path)
    main(["run", "--dataset", "voc", "--data-root", "data", "--method", "vanilla", "--save-masks"])
    (tmp_path / "data").rename(tmp_path / "moved")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["boundary", "vanilla"])
    assert end.value.code == 2
    assert f"there is no {tmp_path}/data/VOCdevkit" in capsys.readouterr().err
    main(["boundary", "vanilla", "--data-root", "moved"])
    printed = capsys.readouterr().out
    assert "2 images, within 0.75 %" in printed
    # Its labels are of one class each.
    assert [cell.strip() for cell in printed.split("| person")[1].splitlines()[0].split("|")[1:4]] == ["-"] * 3
