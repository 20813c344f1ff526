"""Boundary pixels per class, and how many of them lie near the other map's boundary of the same class.

Matching within a distance follows Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?".
Counts are whole numbers, so images of any number add up exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .metrics import Floats
from .pixel_counts import Counts

Mask = NDArray[np.bool_]
Ids = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Boundary pixels per class, int64: ``(classes,)`` of one image, or ``(images, classes)``."""

    predicted: Counts
    predicted_matched: Counts
    """Of these, those near the label's boundary of the class."""
    label: Counts
    label_matched: Counts
    """Of these, those near the predicted boundary of the class."""

    @classmethod
    def stacked(cls, images: Sequence[BoundaryCounts]) -> BoundaryCounts:
        """Counts of several images, in their order."""
        return cls(*(np.stack([getattr(each, field.name) for each in images]) for field in fields(cls)))

    def of_class(self, id: int) -> BoundaryCounts:
        """Counts of one class, ``(images, 1)``, of the images that show it in the label or the prediction."""
        shown = self.predicted[:, id] + self.label[:, id] > 0
        return BoundaryCounts(*(part[shown, id : id + 1] for part in self._parts))

    def total(self) -> BoundaryCounts:
        """All images together, ``(classes,)``."""
        return BoundaryCounts(*(part.sum(0) for part in self._parts))

    def without_each(self) -> BoundaryCounts:
        """All images but one, of every image, ``(images, classes)``."""
        return BoundaryCounts(*(part.sum(0) - part for part in self._parts))

    @property
    def _parts(self) -> tuple[Counts, Counts, Counts, Counts]:
        return self.predicted, self.predicted_matched, self.label, self.label_matched


def tolerance_pixels(size: tuple[int, int], percent: float) -> float:
    """The distance in pixels that is so many percent of the diagonal of ``size``, height and width."""
    return percent / 100 * float(np.hypot(*size))


def count_boundaries(
    predicted: Ids, label: Ids, classes: int, ignored_ids: Collection[int], tolerance: float
) -> BoundaryCounts:
    """Count the boundary pixels of one image.

    A pixel is on the boundary of its class where a pixel above, below, left or right of it is of another class. The
    frame of the image is no boundary. What is predicted where the label is ignored changes nothing, and boundary pixels
    within ``tolerance`` of such a pixel do not count: where the label's boundary runs there is unknown.

    Args:
        predicted: Class ids, ``(height, width)``; one that is no class, such as 255, is where nothing is predicted.
        label: Class ids, ``(height, width)``.
        classes: How many there are.
        ignored_ids: Labels whose pixels do not count.
        tolerance: In pixels; a distance of exactly so much is a match.
    """
    known = ~np.isin(label, list(ignored_ids))
    edges = [(ids, _boundary(ids, known)) for ids in (predicted, label)]
    counted = known if known.all() else _distance_to(~known) > tolerance
    counts = np.zeros((4, classes), np.int64)
    for id in {int(id) for ids, edge in edges for id in np.unique(ids[edge])} & {*range(classes)} - {*ignored_ids}:
        own, other = (edge & (ids == id) for ids, edge in edges)
        counts[:, id] = *_matched(own, other, counted, tolerance), *_matched(other, own, counted, tolerance)
    return BoundaryCounts(*counts)


def _boundary(ids: Ids, known: Mask) -> Mask:
    """Pixels beside one of another class, both known."""
    edge = np.zeros(ids.shape, np.bool_)
    for pixels, kept, found in ((ids, known, edge), (ids.T, known.T, edge.T)):
        differ = (pixels[1:] != pixels[:-1]) & kept[1:] & kept[:-1]
        found[1:] |= differ
        found[:-1] |= differ
    return edge


def _matched(boundary: Mask, other: Mask, counted: Mask, tolerance: float) -> tuple[int, int]:
    """Pixels of a boundary that count, and of these, those within ``tolerance`` of the other boundary."""
    pixels = boundary & counted
    amount = int(np.count_nonzero(pixels))
    if not amount or not other.any():
        return amount, 0
    # The nearest pixel is in the box around both, and most boxes are small beside the image.
    box = _box(pixels | other)
    distance = _distance_to(other[box])
    return amount, int(np.count_nonzero(distance[pixels[box]] <= tolerance))


def _distance_to(pixels: Mask) -> Floats:
    """Of every pixel to the nearest of ``pixels``."""
    return np.asarray(distance_transform_edt(~pixels), np.float64)


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
