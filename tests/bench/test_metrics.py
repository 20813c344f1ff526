from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.bench.evaluation.metrics import best_index, class_iou, mean_iou, score_counts
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.datasets.mmseg_import import import_mmseg

from .label_maps import count_label_map


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
    counts = [count_label_map(prediction, label, 6) for prediction, label in label_maps]
    ours = score_counts(
        PixelCounts(
            np.concatenate([image.intersection for image in counts]),
            np.concatenate([image.predicted_area for image in counts]),
            np.stack([image.label_area for image in counts]),
        ),
        "all",
    )
    assert round(100 * ours.miou, 2) == pytest.approx(float(theirs["mIoU"]))
    assert round(100 * ours.accuracy, 2) == pytest.approx(float(theirs["aAcc"]))
    results: Any = [torch.stack(part).sum(0) for part in zip(*metric.results, strict=True)]
    intersect, union, predicted, labelled = results
    assert np.sum([image.intersection[0] for image in counts], 0).tolist() == intersect.tolist()
    assert np.sum([image.predicted_area[0] for image in counts], 0).tolist() == predicted.tolist()
    assert np.sum([image.label_area for image in counts], 0).tolist() == labelled.tolist()
    seen = union.numpy() > 0
    assert np.allclose(ours.class_iou[seen], (intersect / union).numpy()[seen])
    assert np.isnan(ours.class_iou[~seen]).all()


def test_which_classes_enter_the_mean() -> None:
    # Class 0 right, class 1 only predicted, class 2 neither, class 3 only labelled.
    intersection, prediction, label = np.array([8.0, 0, 0, 0]), np.array([8.0, 2, 0, 0]), np.array([8.0, 0, 0, 2])
    assert mean_iou(intersection, prediction, label, "all") == pytest.approx(1 / 3)
    assert mean_iou(intersection, prediction, label, "in-ground-truth") == pytest.approx(1 / 2)
    assert np.isnan(class_iou(intersection, prediction, label)).tolist() == [False, False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_scores_do_not_depend_on_the_order_of_images(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(1, 100, (images, 3))
    intersection = (label * rng.random((images, 3))).astype(np.int64)
    counts = PixelCounts(intersection, label.copy(), label)
    result = score_counts(counts, "all")
    order = rng.permutation(images)
    shuffled = score_counts(PixelCounts(intersection[order], label[order], label[order]), "all")
    assert (shuffled.miou, shuffled.accuracy) == (result.miou, result.accuracy)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 9))
def test_counts_equal_mmseg_on_random_label_maps(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, (6, 11)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255
    prediction = rng.integers(0, classes, label.shape)
    theirs = import_mmseg("evaluation").IoUMetric.intersect_and_union(
        torch.from_numpy(prediction), torch.from_numpy(label.astype(np.int64)), classes, 255
    )
    intersection, union, predicted, labelled = (part.numpy().tolist() for part in theirs)
    ours = count_label_map(prediction, label, classes)
    assert ours.intersection[0].tolist() == intersection
    assert (ours.predicted_area[0] + ours.label_area - ours.intersection[0]).tolist() == union
    assert ours.predicted_area[0].tolist() == predicted
    assert ours.label_area.tolist() == labelled


def test_every_class_counts_as_nought_where_it_is_never_seen() -> None:
    intersection, prediction, label = np.array([8.0, 0, 0, 0]), np.array([8.0, 2, 0, 0]), np.array([8.0, 0, 0, 2])
    assert mean_iou(intersection, prediction, label, "every-class") == pytest.approx(1 / 4)


def test_the_best_threshold_is_that_of_all_images_together() -> None:
    def at(first: list[int], second: list[int]) -> PixelCounts:
        intersection = np.array([first, second])
        label = np.array([[10, 10], [90, 90]])
        return PixelCounts(intersection, label, label)

    # The first threshold is best on one image, the second on the sum, the third equals it.
    sweep = [at([10, 10], [10, 10]), at([0, 0], [80, 80]), at([0, 0], [80, 80])]
    assert best_index(sweep, "all") == 1
    nothing = np.zeros((1, 2), np.int64)
    assert best_index([PixelCounts(nothing, nothing, nothing), sweep[0]], "all") == 1
