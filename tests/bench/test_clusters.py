from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segscale.bench.evaluation.clusters import (
    ClusterMatching,
    MatchingUnit,
    count_clusters,
    count_matched,
    crop_then_resize,
    resize_label,
)
from segscale.bench.evaluation.metrics import mean_iou

VOC_CLASSES = 21
EDGES = (160, 640)


def matching(unit: MatchingUnit, class_count: int, order: tuple[int, ...] | None = None) -> ClusterMatching:
    """Classes in ascending order, or in ``order``."""
    return ClusterMatching(class_count, tuple(range(class_count)) if order is None else order, unit, EDGES)


@pytest.mark.parametrize(("unit", "suffix"), [("row", ""), ("image", "_whole")])
@pytest.mark.parametrize("key", ["0p1", "0p035"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_matching_counts_as_published(
    seg4diff_parity: Path, case: str, key: str, unit: MatchingUnit, suffix: str
) -> None:
    stored = np.load(seg4diff_parity / "oracle" / f"sd3_unsup_{case}.npz")
    counts = count_matched(stored[f"label_eval_{key}"], stored["gt_resized"], matching(unit, VOC_CLASSES))
    intersection, prediction = counts.intersection[0], counts.predicted_area[0]
    assert intersection.tolist() == stored[f"tp{suffix}_{key}"].tolist()
    assert (prediction - intersection).tolist() == stored[f"fp{suffix}_{key}"].tolist()
    assert (counts.label_area - intersection).tolist() == stored[f"fn{suffix}_{key}"].tolist()


def test_means_are_the_published_ones(seg4diff_parity: Path) -> None:
    stored = np.load(seg4diff_parity / "oracle" / "sd3_unsup_a.npz")
    for unit, expected in (("row", 0.14038953688492453), ("image", 0.08591767605416281)):
        counts = count_matched(stored["label_eval_0p035"], stored["gt_resized"], matching(unit, VOC_CLASSES))
        mean = mean_iou(counts.intersection[0], counts.predicted_area[0], counts.label_area, "all")
        assert mean == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("key", ["0p1", "0p035"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_predictions_and_labels_reach_the_evaluated_size_as_published(
    seg4diff_parity: Path, case: str, key: str
) -> None:
    stored = np.load(seg4diff_parity / "oracle" / f"sd3_unsup_{case}.npz")
    label = np.asarray(Image.open(seg4diff_parity / "inputs" / f"gt_voc21_{case}.png"))
    size = stored["gt_resized"].shape
    assert np.array_equal(resize_label(label, size), stored["gt_resized"])
    scores = crop_then_resize(torch.from_numpy(stored[f"merged_{key}"]), label.shape, size)
    assert np.array_equal(scores.argmax(0).numpy(), stored[f"label_eval_{key}"])


@pytest.mark.parametrize("key", ["0p1", "0p035"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_background_first_gives_the_published_counts_in_the_published_order(
    seg4diff_parity: Path, case: str, key: str
) -> None:
    stored = np.load(seg4diff_parity / "oracle" / f"sd3_unsup_{case}.npz")
    published = np.asarray(Image.open(seg4diff_parity / "inputs" / f"gt_voc21_{case}.png"))
    # The published label files hold background last; here it is 0.
    label = np.where(published == 255, published, (published + 1) % VOC_CLASSES).astype(np.uint8)
    order = (*range(1, VOC_CLASSES), 0)
    maps = torch.from_numpy(stored[f"merged_{key}"])
    counts = count_clusters(maps, label, matching("row", VOC_CLASSES, order))
    assert counts.intersection[0, list(order)].tolist() == stored[f"tp_{key}"].tolist()
    fp = counts.predicted_area - counts.intersection
    assert fp[0, list(order)].tolist() == stored[f"fp_{key}"].tolist()
    ascending = count_clusters(maps, label, matching("row", VOC_CLASSES))
    assert ascending.intersection.sum() == counts.intersection.sum()
    assert ascending.predicted_area.tolist() != counts.predicted_area.tolist()


def test_labels_that_the_order_leaves_out_do_not_count() -> None:
    label = np.array([[0, 0, 1, 2, 255]], np.uint8)
    counts = count_matched(np.array([[0, 0, 1, 1, 1]]), label, matching("image", 3, (2, 0)))
    assert counts.label_area.tolist() == [2, 0, 1]
    assert counts.intersection.tolist() == [[2, 0, 1]]
    assert counts.predicted_area.tolist() == [[2, 0, 1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3))
def test_no_other_matching_overlaps_more(seed: int, clusters: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    prediction = rng.integers(0, clusters, (4, 6))
    label = rng.integers(0, classes + 1, (4, 6)).astype(np.uint8)
    label[label == classes] = 255

    def most(predicted: np.ndarray, true: np.ndarray) -> int:
        names = permutations(range(max(clusters, classes)), classes)
        overlap = [[int(np.count_nonzero((predicted == k) & (true == c))) for k in range(5)] for c in range(classes)]
        return max(sum(overlap[c][k] for c, k in enumerate(order)) for order in names)

    whole = count_matched(prediction, label, matching("image", classes))
    rows = count_matched(prediction, label, matching("row", classes))
    assert whole.intersection.sum() == most(prediction, label)
    assert rows.intersection.sum() == sum(most(p, t) for p, t in zip(prediction, label, strict=True))
    for counts in (whole, rows):
        assert counts.label_area.tolist() == [np.count_nonzero(label == c) for c in range(classes)]
        assert (counts.intersection <= counts.predicted_area).all()
        assert counts.predicted_area.sum() <= counts.label_area.sum()
        parts = (counts.intersection, counts.predicted_area, counts.label_area)
        assert {part.dtype for part in parts} == {np.dtype(np.int64)}


def test_names_of_clusters_do_not_matter_for_the_overlap() -> None:
    label = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    counts = count_matched(1 - label, label, matching("image", 2))
    assert counts.intersection.tolist() == [[4, 4]]


def test_clusters_beyond_the_classes_are_dropped() -> None:
    counts = count_matched(np.array([[0, 0, 0, 1, 2]]), np.zeros((1, 5), np.uint8), matching("image", 1))
    assert counts.predicted_area.tolist() == [[3]]
    assert counts.label_area.tolist() == [5]
