from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segscale.bench.areas import label_areas, label_map, threshold_areas
from segscale.bench.metrics import ImageAreas, class_iou, mean_iou, score
from segscale.datasets.openmmlab import import_mmseg
from segscale.methods.method import ClassScores

CLASSES = 6
THRESHOLDS = (-0.4, -0.1, 0.0, 0.25, 0.9)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ClassScores, tuple[int, ...], np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ids = tuple(sorted(draw(st.sets(st.integers(1, CLASSES - 1), max_size=4))))
    side = draw(st.integers(1, 5))
    # Coarse values, so that ties happen.
    values = rng.integers(0, 5, (len(ids) + 1, side, side)) / 4
    if draw(st.booleans()):
        values[rng.random(values.shape) < 0.2] = np.nan
    label = rng.integers(0, CLASSES, (draw(st.integers(1, 9)), draw(st.integers(1, 9)))).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = 255
    maps = torch.from_numpy(values).float()
    return ClassScores(maps[:-1], maps[-1]), ids, label


@settings(max_examples=200, deadline=None)
@given(cases())
def test_a_sweep_equals_one_label_map_per_threshold(case: tuple[ClassScores, tuple[int, ...], np.ndarray]) -> None:
    scores, ids, label = case
    swept = threshold_areas(scores, ids, 0, label, CLASSES, THRESHOLDS)
    for index, threshold in enumerate(THRESHOLDS):
        one = label_areas(label_map(scores, ids, 0, threshold, label.shape), label, CLASSES)
        assert np.array_equal(swept.intersection[index], one.intersection[0])
        assert np.array_equal(swept.prediction[index], one.prediction[0])
        assert np.array_equal(swept.label, one.label)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_areas_add_up(case: tuple[ClassScores, tuple[int, ...], np.ndarray]) -> None:
    scores, ids, label = case
    areas = threshold_areas(scores, ids, 0, label, CLASSES, THRESHOLDS)
    counted = np.count_nonzero(label != 255)
    assert areas.label.sum() == counted
    assert (areas.prediction.sum(1) == counted).all()
    assert (areas.intersection <= areas.prediction).all()
    assert (areas.intersection <= areas.label).all()
    assert (np.diff(areas.prediction[:, 0]) >= 0).all()
    assert {a.dtype for a in (areas.intersection, areas.prediction, areas.label)} == {np.dtype(np.int64)}


def test_the_winner_is_an_argmax_with_background_first() -> None:
    scores = ClassScores(torch.tensor([[[0.5, 0.9, 0.2]], [[0.5, 0.1, torch.nan]]]), torch.tensor([[0.5, 0.0, 0.9]]))
    assert label_map(scores, (2, 4), 0, 0.0, (1, 3)).tolist() == [[0, 2, 4]]
    assert label_map(scores, (2, 4), 0, -0.1, (1, 3)).tolist() == [[2, 2, 4]]
    scores = ClassScores(scores.classes, torch.full((1, 3), torch.nan))
    assert label_map(scores, (2, 4), 0, 0.0, (1, 3)).tolist() == [[0, 0, 0]]


@pytest.fixture(scope="module")
def label_maps() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    pairs = []
    for size in ((20, 30), (7, 50), (64, 64)):
        label = rng.integers(0, 4, size).astype(np.uint8)
        prediction = np.where(rng.random(size) < 0.6, label, rng.integers(0, 5, size))
        label[rng.random(size) < 0.1] = 255
        pairs.append((prediction, label))
    return pairs


def test_metrics_equal_mmseg_on_the_same_label_maps(label_maps: list[tuple[np.ndarray, np.ndarray]]) -> None:
    metric = import_mmseg("evaluation").IoUMetric()
    metric.dataset_meta = {"classes": tuple("abcdef")}
    for prediction, label in label_maps:
        sample = {
            "pred_sem_seg": {"data": torch.from_numpy(prediction)[None]},
            "gt_sem_seg": {"data": torch.from_numpy(label.astype(np.int64))[None]},
        }
        metric.process({}, [sample])
    theirs = metric.compute_metrics(metric.results)
    areas = [label_areas(prediction, label, 6) for prediction, label in label_maps]
    ours = score(
        ImageAreas(
            np.concatenate([a.intersection for a in areas]),
            np.concatenate([a.prediction for a in areas]),
            np.stack([a.label for a in areas]),
        ),
        "all",
    )
    assert round(100 * ours.miou, 2) == pytest.approx(float(theirs["mIoU"]))
    assert round(100 * ours.accuracy, 2) == pytest.approx(float(theirs["aAcc"]))
    results: Any = [torch.stack(part).sum(0) for part in zip(*metric.results, strict=True)]
    intersect, union, predicted, labelled = results
    assert np.sum([a.intersection[0] for a in areas], 0).tolist() == intersect.tolist()
    assert np.sum([a.prediction[0] for a in areas], 0).tolist() == predicted.tolist()
    assert np.sum([a.label for a in areas], 0).tolist() == labelled.tolist()
    seen = union.numpy() > 0
    assert np.allclose(ours.class_iou[seen], (intersect / union).numpy()[seen])
    assert np.isnan(ours.class_iou[~seen]).all()


def test_areas_are_exact_where_single_precision_is_not() -> None:
    size = 2**24 + 4
    label = np.zeros((1, size), np.uint8)
    prediction = np.zeros((1, size), np.int64)
    prediction[0, 0] = 1
    areas = label_areas(prediction, label, 2)
    assert areas.intersection[0].tolist() == [size - 1, 0]
    assert areas.prediction[0].tolist() == [size - 1, 1]
    assert int(np.float32(size - 1)) != size - 1


def test_which_classes_enter_the_mean() -> None:
    # Class 0 right, class 1 only predicted, class 2 neither, class 3 only labelled.
    intersection, prediction, label = np.array([8.0, 0, 0, 0]), np.array([8.0, 2, 0, 0]), np.array([8.0, 0, 0, 2])
    assert mean_iou(intersection, prediction, label, "all") == pytest.approx(1 / 3)
    assert mean_iou(intersection, prediction, label, "in-ground-truth") == pytest.approx(1 / 2)
    assert np.isnan(class_iou(intersection, prediction, label)).tolist() == [False, False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_interval_holds_the_mean_and_does_not_depend_on_the_order(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(1, 100, (images, 3))
    intersection = (label * rng.random((images, 3))).astype(np.int64)
    areas = ImageAreas(intersection, label.copy(), label)
    result = score(areas, "all")
    assert 0 <= result.low <= result.high <= 1
    if images == 1:
        assert result.low == pytest.approx(result.high)
        assert result.low == pytest.approx(result.miou)
    order = rng.permutation(images)
    shuffled = score(ImageAreas(intersection[order], label[order], label[order]), "all")
    assert shuffled.miou == pytest.approx(result.miou)
