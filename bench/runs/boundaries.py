"""Boundaries of the masks that a run keeps, against the labels on disk that its numbers were made of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tqdm import tqdm

from segscale.errors import UserError

from ...datasets.dataset import Digests, first_places
from ...datasets.files import read_label
from ..evaluation.boundary_counts import BoundaryCounts, count_boundaries, tolerance_pixels
from ..evaluation.boundary_score import BoundaryScore, score_boundaries
from ..tasks.task import Task
from .masks import mask_path, masked_images, no_masks
from .record import StoredRun
from .store import RunStore
from .verify import task_on_disk


@dataclass(frozen=True)
class RunBoundaries:
    """Boundary scores of a run."""

    score: BoundaryScore
    images: int
    """How many were compared."""
    pixels: tuple[float, float]
    """The tolerance in the smallest and in the largest of them."""
    left_out: Mapping[str, str]
    """Images with a mask that were not, with the reason."""


def compare_boundaries(store: RunStore, data_root: str | None, tolerance: float) -> RunBoundaries:
    """Compare all masks of a run with the labels of its images.

    Args:
        store: The run.
        data_root: Folder of the dataset, where it is not the one that the run was made from.
        tolerance: In percent of an image's diagonal.

    Raises:
        UserError: The run has no mask, the dataset is not to be found or is read in another way than it was, or no
            image can be compared.
    """
    images = masked_images(store.folder)
    if not images:
        raise no_masks(store.folder)
    run = store.read()
    labels = _Labels(run, store, task_on_disk(run, data_root), tolerance)
    counts, pixels, left_out = list[BoundaryCounts](), list[float](), dict[str, str]()
    for image in tqdm(images, desc="boundaries", unit="image"):
        try:
            counted, radius = labels.count(image)
        except UserError as error:
            left_out[image] = error.problem
            continue
        counts.append(counted)
        pixels.append(radius)
    if not counts:
        image, reason = next(iter(left_out.items()))
        problem = f"none of {len(images)} masks can be compared with its label ({image}: {reason})"
        raise UserError(problem, f"see: segscale verify {shlex.quote(str(store.folder))}")
    whole_split = len(counts) == run.split_images
    score = score_boundaries(BoundaryCounts.stacked(counts), run.table_rules.averaging, whole_split)
    return RunBoundaries(score, len(counts), (min(pixels), max(pixels)), left_out)


class _Labels:
    """The labels of a run's images, as far as they are what its numbers were made of."""

    def __init__(self, run: StoredRun, store: RunStore, task: Task, tolerance: float) -> None:
        self._folder, self._task, self._tolerance = store.folder, task, tolerance
        self._stored: Mapping[str, Digests] = store.made_of()
        self._places = first_places(task.dataset.ids)
        was, now = run.plan.task, task.identity
        # Single images may be gone: each that is there is compared by its digest.
        if replace(now, dataset=replace(now.dataset, images=was.dataset.images)) != was:
            problem = f"labels of {was.dataset.name} are read by other rules than those of {store.folder}"
            raise UserError(problem, f"see: segscale verify {shlex.quote(str(store.folder))}")

    def count(self, image: str) -> tuple[BoundaryCounts, float]:
        """Count the boundaries of an image, and give the tolerance in pixels.

        Raises:
            UserError: Where mask and label cannot be compared.
        """
        task, label = self._task, self._label(image)
        height, width = label.shape
        classes = len(task.class_names)
        mask = read_label(mask_path(self._folder, image), (width, height), classes)
        radius = tolerance_pixels((height, width), self._tolerance)
        return count_boundaries(mask, task.target_label(label), classes, task.ignored_ids, radius), radius

    def _label(self, image: str):
        hint = f"see: segscale verify {shlex.quote(str(self._folder))}"
        if image not in self._stored:
            raise UserError("the run does not store its numbers", hint)
        if image not in self._places:
            raise UserError("the dataset has no such image", hint)
        sample = self._task.dataset[self._places[image]]
        if sample.digests.label != self._stored[image].label:
            raise UserError("the label changed", hint)
        return sample.label
