"""Unsupervised evaluation: nameless clusters are matched to classes before areas are counted (Seg4Diff)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...backbones.latents.images import shortest_edge_size
from ...datasets.dataset import IGNORE_LABEL
from .decision import resize_scores
from .pixel_counts import Areas

MatchingUnit = Literal["row", "image"]


def cluster_areas(
    maps: Tensor,
    label: NDArray[np.uint8],
    classes: int,
    order: Sequence[int],
    unit: MatchingUnit,
    edges: tuple[int, int],
    cropped: bool = True,
) -> Areas:
    """Areas ``(1, classes)`` of cluster maps ``(clusters, h, w)`` against a label map of the image's size.

    A pixel belongs to its largest map. edges: short and longest edge, in pixels, at which prediction and label are
    compared. cropped: see ``cropped_then_resized``. The rest as in ``matched_areas``.
    """
    width, height = shortest_edge_size(label.shape[1], label.shape[0], *edges)
    original, size = (label.shape[0], label.shape[1]), (height, width)
    scores = cropped_then_resized(maps, original, size) if cropped else resize_scores(maps, size)
    return matched_areas(scores.max(0)[1].numpy(), resized_label(label, (height, width)), classes, order, unit)


def matched_areas(
    prediction: NDArray[np.integer],
    label: NDArray[np.uint8],
    classes: int,
    order: Sequence[int],
    unit: MatchingUnit,
) -> Areas:
    """Areas ``(1, classes)`` after matching clusters one to one to classes so that they overlap most.

    prediction: cluster ids from 0. unit: once for the whole ``image`` (as described), or for each pixel ``row`` on
    its own, areas added up (as published, which raises the score). order: class ids that count; it decides between
    equal overlaps, which matters much per row.
    Absent classes get clusters that are left over and so their pixels as false positives; clusters beyond the
    number of classes are dropped from the predictions.
    """
    ids, clusters = np.asarray(order), max(len(order), int(prediction.max()) + 1)
    places = np.full(IGNORE_LABEL + 1, len(ids))
    places[ids] = np.arange(len(ids))
    height = len(label) if unit == "image" else 1
    intersection, predicted, labelled = np.zeros((3, classes), np.int64)
    for top in range(0, len(label), height):
        rows = slice(top, top + height)
        overlap = _overlap(prediction[rows], places[label[rows]], len(ids), clusters)
        matched, columns = linear_sum_assignment(overlap, maximize=True)
        intersection[ids[matched]] += overlap[matched, columns]
        predicted[ids[matched]] += overlap.sum(0)[columns]
        labelled[ids] += overlap.sum(1)
    return Areas(intersection[None], predicted[None], labelled)


def _overlap(
    prediction: NDArray[np.integer], places: NDArray[np.integer], classes: int, clusters: int
) -> NDArray[np.int64]:
    """Pixels per class and cluster, ``(classes, clusters)``; places from ``classes`` on do not count."""
    counted = places < classes
    key = places[counted].astype(np.int64) * clusters + prediction[counted]
    return np.bincount(key, minlength=classes * clusters).reshape(classes, clusters).astype(np.int64)


def cropped_then_resized(maps: Tensor, original: tuple[int, int], evaluated: tuple[int, int]) -> Tensor:
    """``(n, h, w)`` stretched to ``original``, cut to the top left of ``evaluated``, stretched to ``evaluated``.

    Sizes are (height, width). Published behaviour: where the original image is larger than the evaluated one,
    its top left corner is compared with the whole label.
    """
    height, width = evaluated
    crop = resize_scores(maps, original)[:, :height, :width]
    return F.interpolate(crop[None], size=evaluated, mode="bilinear", align_corners=False)[0]


def resized_label(label: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Nearest resize to ``size`` (height, width)."""
    return np.asarray(Image.fromarray(label).resize((size[1], size[0]), Image.Resampling.NEAREST))
