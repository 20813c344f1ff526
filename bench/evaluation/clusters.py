"""Unsupervised evaluation: nameless clusters are matched to classes before areas are counted (Seg4Diff)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...backbones.latents.images import shortest_edge_size
from ...datasets.labels import IGNORE_LABEL
from .labelling import resize_scores
from .pixel_counts import PixelCounts

MatchingUnit = Literal["row", "image"]


@dataclass(frozen=True)
class ClusterMatching:
    """How nameless clusters are matched one to one to classes so that they overlap most."""

    class_count: int
    label_order: tuple[int, ...]
    """Class ids that count; their order decides between equal overlaps, which matters much per row."""
    unit: MatchingUnit
    """Once for the whole ``image`` (as described), or for each pixel ``row`` on its own, counts added up (as
    published, which raises the score)."""
    edges: tuple[int, int]
    """Short and longest edge, in pixels, at which prediction and label are compared."""
    crop_before_resize: bool = True
    """See ``crop_then_resize``."""

    def size(self, label: NDArray[np.uint8]) -> tuple[int, int]:
        """Height and width at which an image with this label is compared."""
        width, height = shortest_edge_size(label.shape[1], label.shape[0], *self.edges)
        return height, width


def count_clusters(maps: Tensor, label: NDArray[np.uint8], matching: ClusterMatching) -> PixelCounts:
    """Count pixels of cluster maps ``(clusters, h, w)`` against a label map of the image's size: ``(1, classes)``.

    A pixel belongs to its largest map.
    """
    original, size = (label.shape[0], label.shape[1]), matching.size(label)
    scores = crop_then_resize(maps, original, size) if matching.crop_before_resize else resize_scores(maps, size)
    return count_matched(scores.max(0)[1].numpy(), resize_label(label, size), matching)


def count_matched(prediction: NDArray[np.integer], label: NDArray[np.uint8], matching: ClusterMatching) -> PixelCounts:
    """Count pixels after matching cluster ids (from 0) to classes: ``(1, classes)``.

    Absent classes get clusters that are left over and so their pixels as false positives; clusters beyond the
    number of classes are dropped from the predictions.
    """
    classes, order = matching.class_count, matching.label_order
    ids, clusters = np.asarray(order), max(len(order), int(prediction.max()) + 1)
    places = np.full(IGNORE_LABEL + 1, len(ids))
    places[ids] = np.arange(len(ids))
    height = len(label) if matching.unit == "image" else 1
    intersection, predicted, labelled = np.zeros((3, classes), np.int64)
    for top in range(0, len(label), height):
        rows = slice(top, top + height)
        overlap = _overlap(prediction[rows], places[label[rows]], len(ids), clusters)
        matched, columns = linear_sum_assignment(overlap, maximize=True)
        intersection[ids[matched]] += overlap[matched, columns]
        predicted[ids[matched]] += overlap.sum(0)[columns]
        labelled[ids] += overlap.sum(1)
    return PixelCounts(intersection[None], predicted[None], labelled)


def _overlap(
    prediction: NDArray[np.integer], places: NDArray[np.integer], classes: int, clusters: int
) -> NDArray[np.int64]:
    """Count pixels per class and cluster, ``(classes, clusters)``; places from ``classes`` on do not count."""
    counted = places < classes
    key = places[counted].astype(np.int64) * clusters + prediction[counted]
    return np.bincount(key, minlength=classes * clusters).reshape(classes, clusters).astype(np.int64)


def crop_then_resize(maps: Tensor, original: tuple[int, int], evaluated: tuple[int, int]) -> Tensor:
    """Stretch ``(n, h, w)`` to ``original``, cut it to the top left of ``evaluated``, stretch it to ``evaluated``.

    Sizes are (height, width). Published behaviour: where the original image is larger than the evaluated one,
    its top left corner is compared with the whole label.
    """
    height, width = evaluated
    crop = resize_scores(maps, original)[:, :height, :width]
    return F.interpolate(crop[None], size=evaluated, mode="bilinear", align_corners=False)[0]


def resize_label(label: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by nearest neighbour to ``size`` (height, width)."""
    return np.asarray(Image.fromarray(label).resize((size[1], size[0]), Image.Resampling.NEAREST))
