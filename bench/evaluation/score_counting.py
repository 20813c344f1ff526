"""From class scores to their histograms over pixels of the class and over others."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...datasets.labels import IGNORE_LABEL
from .labelling import resize_scores
from .score_histograms import BINS, ScoreHistograms

LOWEST_EXPONENT = -6
"""Raw attention below ten to this power falls into the lowest bin; its bins are even on a logarithmic scale."""


def score_histograms(
    maps: Tensor,
    class_ids: tuple[int, ...],
    label: NDArray[np.integer],
    normalised: bool,
    ignored_ids: Collection[int] = (IGNORE_LABEL,),
) -> ScoreHistograms:
    """Count the pixels of an image at the size of its label. A score that is no number falls into the lowest bin.

    Args:
        maps: One map per class of ``class_ids``, ``(n, h, w)``.
        class_ids: Of the maps.
        label: Class ids, ``(height, width)``.
        normalised: Whether scores span [0, 1], rather than being raw attention.
        ignored_ids: Labels whose pixels do not count.
    """
    counted = ~np.isin(label, list(ignored_ids))
    mask = None if counted.all() else Image.fromarray(counted)
    pixels = np.zeros((len(class_ids), 2, BINS), np.int64)
    for place, id in enumerate(class_ids):
        # One at a time: a full vocabulary at the size of a label is large.
        resized = resize_scores(maps[place : place + 1], (label.shape[0], label.shape[1]))[0]
        bins = _bins(resized, normalised).numpy()
        bins += np.multiply(label == id, BINS, dtype=np.uint8)
        # Pillow's histogram of bytes is many times as fast as numpy's.
        pixels[place] = np.reshape(Image.fromarray(bins).histogram(mask), (2, BINS))
    return ScoreHistograms(np.array(class_ids, np.int64), pixels)


def _bins(scores: Tensor, normalised: bool) -> Tensor:
    """The bin of every score, which are changed in place, as bytes."""
    if not normalised:
        scores = scores.clamp_(min=10.0**LOWEST_EXPONENT).log10_().div_(-LOWEST_EXPONENT).add_(1)
    return scores.nan_to_num_(0.0).mul_(BINS).clamp_(0, BINS - 1).byte()
