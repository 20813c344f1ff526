"""The stored pixel counts of one run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..evaluation.intervals import LeaveOneOut, SampledCounts
from ..evaluation.metrics import Averaging, Floats, best_index
from ..evaluation.pixel_counts import PixelCounts
from ..evaluation.score_histograms import ScoreHistograms, average_precision, mean_average_precision, summed
from .parts import COUNTS, NUMBERS, PartRules, column, counts_of, histograms_of
from .record import StoredRun


@dataclass(frozen=True, eq=False)
class StoredCounts:
    """Pixel counts of many images at every threshold, images in order of their ids."""

    images: tuple[str, ...]
    thresholds: tuple[float, ...]
    intersection: NDArray[np.int64]
    """``(images, thresholds, classes)``."""
    predicted_area: NDArray[np.int64]
    """``(images, thresholds, classes)``."""
    label_area: NDArray[np.int64]
    """``(images, classes)``."""
    seconds: NDArray[np.float64]
    """Wall time per image."""
    peak_bytes: NDArray[np.int64]
    """Peak memory of the process or device when each image was done."""
    not_finite: NDArray[np.int64]
    """Scores of each image that are NaN or infinite."""
    cut_classes: NDArray[np.int64]
    """Classes of each image without a token in the prompt."""
    forwards: NDArray[np.int64]
    """Of the denoiser per image, if the method were alone."""
    forwards_together: NDArray[np.int64]
    """Of all methods that read the image together."""
    captioned: NDArray[np.int64]
    """1 for each image whose prompt a caption made, else 0."""
    histograms: tuple[ScoreHistograms, ...]
    """Pixels of each image by class and score."""

    @classmethod
    def of(cls, table: pa.Table, run: StoredRun, rules: PartRules) -> StoredCounts:
        """Those in the rows of parts, one row per image, in their order."""
        return cls(
            images=tuple(column(table, "image").to_pylist()),
            thresholds=run.plan.task.protocol.thresholds,
            histograms=tuple(histograms_of(table)),
            **{name: counts_of(table, name, rules) for name in COUNTS},
            **{name: column(table, name).to_numpy() for name in NUMBERS},
        )

    def __len__(self) -> int:
        return len(self.images)

    def at_threshold(self, threshold: float) -> PixelCounts:
        """Counts of all images at a stored threshold. Raises ValueError for another."""
        index = self.thresholds.index(threshold)
        return PixelCounts(self.intersection[:, index], self.predicted_area[:, index], self.label_area)

    def sample(self, threshold: float | Literal["best"], averaging: Averaging, split_images: int) -> SampledCounts:
        """What the mIoU at a stored threshold, or at the best one, is estimated from.

        Args:
            threshold: A stored one or ``best``.
            averaging: Classes that enter the mean.
            split_images: Of the whole split: where all are here, it is known which classes occur.
        """
        whole = len(self) == split_images
        occurs = np.any(self.label_area > 0, axis=0) if whole else None
        swept = PixelCounts(self.intersection, self.predicted_area, self.label_area)
        return SampledCounts(swept if threshold == "best" else self.at_threshold(threshold), averaging, occurs)

    def best_threshold(self, averaging: Averaging) -> float:
        """The threshold whose mean IoU over all images is highest; the first of equals."""
        return self.thresholds[best_index([self.at_threshold(threshold) for threshold in self.thresholds], averaging)]

    def average_precision(self) -> Floats:
        """Of every class over all images; NaN for one that is not labelled or never has a score."""
        total = summed(self.histograms, self.label_area.shape[1])
        return average_precision(total, self.label_area.sum(0))

    def mean_average_precision(self) -> LeaveOneOut:
        """Mean over classes that have one, with all images and without each."""
        return mean_average_precision(self.histograms, self.label_area)

    def only(self, images: Collection[str]) -> StoredCounts:
        """The part on ``images``."""
        chosen = frozenset(images)
        kept = np.array([image in chosen for image in self.images], np.bool_)
        return replace(
            self,
            images=tuple(compress(self.images, kept)),
            histograms=tuple(compress(self.histograms, kept)),
            **{name: getattr(self, name)[kept] for name in (*COUNTS, *NUMBERS)},
        )
