"""Unsupervised evaluation: nameless clusters are matched to classes before areas are counted (Seg4Diff)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .areas import Areas
from .decision import resize_scores

Matching = Literal["row", "image"]


def matched_areas(
    prediction: NDArray[np.integer], label: NDArray[np.integer], classes: int, matching: Matching
) -> Areas:
    """Areas ``(1, classes)`` after the one-to-one matching of clusters to classes with the largest overlap.

    prediction: cluster ids from 0. label: class ids; those from ``classes`` on do not count. matching: once for the
    whole ``image`` (as described), or for each pixel ``row`` on its own, areas added up (as published, which
    raises the score). Absent classes get clusters that are left over and so their pixels as false positives;
    clusters beyond the number of classes are dropped from the predictions.
    """
    parts = [(prediction, label)] if matching == "image" else list(zip(prediction, label, strict=True))
    clusters = max(classes, int(prediction.max()) + 1)
    overlaps = [_overlap(clusters_of, true, classes, clusters) for clusters_of, true in parts]
    intersection, predicted = np.zeros((2, classes), np.int64)
    for overlap in overlaps:
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        intersection[rows] += overlap[rows, columns]
        predicted[rows] += overlap.sum(0)[columns]
    return Areas(intersection[None], predicted[None], np.sum([overlap.sum(1) for overlap in overlaps], axis=0))


def _overlap(
    prediction: NDArray[np.integer], label: NDArray[np.integer], classes: int, clusters: int
) -> NDArray[np.int64]:
    """Pixels per class and cluster, ``(classes, clusters)``."""
    counted = label < classes
    key = label[counted].astype(np.int64) * clusters + prediction[counted]
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
