"""The run loop: every image through the forwards that its methods share, pixel counts into the run store."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch
from tqdm import tqdm

from segscale.errors import UserError

from ...backbones.backbone import Backbone
from ...datasets.dataset import Sample, repeated_places
from ...methods.method import Method
from ..inference.answers import MethodScores
from ..inference.batch import BatchLimit
from ..inference.memory import PeakMemory
from ..inference.score import image_noise, score
from ..tasks.task import Task
from .conditions import Conditions, note_conditions
from .identity import RunPlan
from .launcher import rank_and_world
from .leases import HeldLease
from .masks import MaskKeeper
from .method_run import MethodRun
from .options import RunOptions
from .plan import make_plan, plan_backbone, run_folder
from .record import Machine, Sources, StoredRun
from .store import RunStore
from .verify import DataOnDisk, refuse_changed

FLUSH_SECONDS = 5.0
CLAIM_SECONDS = 1.0
"""Images are claimed for about so long at once."""
MOST_CLAIMED = 16
COMPACTION = -1
"""Claimed as if it were an image: one process merges the parts of finished runs."""
WAIT_SECONDS = 0.5
"""Between two looks at the images that other processes hold, when no others are left."""
NAMED_METHODS = 6
"""More methods than these make a title too long to read."""
PACKAGES = ("torch", "diffusers", "transformers", "mmsegmentation", "numpy")


@dataclass
class LoopCounts:
    """What the loop did."""

    images: int = 0
    forwards: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Unusable images and what is wrong with each."""


def run_methods(backbone_name: str, methods: Sequence[Method], task: Task, options: RunOptions) -> list[RunStore]:
    """Evaluate methods on one backbone and task, resuming what is stored. One store per method.

    Raises:
        UserError: At the first unusable image (unless ``options.skip_bad``) or missing thing; what was computed stays.
    """
    rank, world = rank_and_world()
    ids = task.dataset.ids
    indices = range(len(ids))[: options.limit]
    rank_indices = indices[rank::world]
    rank_ids = frozenset(ids[index] for index in rank_indices)
    masks = MaskKeeper(task, options.save_masks)
    planned = plan_backbone(backbone_name, options)
    disk = DataOnDisk(task.dataset)
    runs: list[MethodRun] = []
    for method in methods:
        plan = make_plan(planned.identity, method, task, options.seed)
        store = RunStore(run_folder(options.results, plan), rank)
        store.start(_new_run(plan, task, options, len(indices)), ids)
        refuse_changed(store, disk)
        masks.warn_of_stored(store.folder, store.done())
        runs.append(MethodRun(method, store, rank_ids - store.done()))
    pending_indices = [index for index in rank_indices if any(ids[index] in run.due for run in runs)]
    # A run.json that was written anew lacks what only the backbone knows.
    unknown = any(run.store.done() and run.store.read().parameters is None for run in runs)
    asks_backbone = bool(pending_indices or unknown)
    if asks_backbone or any(run.store.is_scattered for run in runs):
        with HeldLease(options.results, (run.store.folder.name for run in runs)) as lease:
            if asks_backbone:
                backbone = planned.load()
                for run in runs:
                    _note_parameters(run.store, backbone)
                _Loop(backbone, task, runs, options, lease, masks).over(pending_indices)
            if lease.claim([COMPACTION], most=1):
                _compact_finished(runs, len(indices))
    _refuse_nothing_left(runs[0].store, task, len(indices))
    return [run.store for run in runs]


def _compact_finished(runs: Sequence[MethodRun], wanted: int) -> None:
    for run in runs:
        if not run.store.missing(wanted):
            run.store.compact()


def _refuse_nothing_left(store: RunStore, task: Task, images: int) -> None:
    """Raise UserError where every image was left out."""
    skipped = store.skipped()
    if images and len(skipped) >= images and not store.done():
        problem = f"all {images} images were left out, such as {min(skipped)}: {min(skipped.items())[1]}"
        raise UserError(problem, f"see all that is wrong: segscale data check {task.dataset.name}")


class _Loop:
    """One pass of a backbone over images."""

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        runs: list[MethodRun],
        options: RunOptions,
        lease: HeldLease,
        masks: MaskKeeper,
    ) -> None:
        self.backbone, self.task, self.runs, self.options, self.lease = backbone, task, runs, options, lease
        self.masks = masks
        self.noise = image_noise(backbone, task, options.seed)
        self.limit = BatchLimit(options.batch)
        self.memory = PeakMemory(backbone.device)
        self.counts = LoopCounts()
        self.ids = task.dataset.ids
        """A dataset may make them anew at every look."""
        self.repeats = repeated_places(self.ids)
        self.in_hand: list[int] = []
        """Places of images that were evaluated and may not be written yet."""
        self.machine = machine()
        self.noted: list[Conditions] = []

    def over(self, indices: Sequence[int]) -> None:
        """Evaluate the images at ``indices``; what is done is stored, whatever ends the loop."""
        self.memory.reset()
        flushed = time.monotonic()
        with tqdm(total=len(indices), desc=self._title(), unit="image") as progress:
            try:
                for places, samples in self._batches(indices, progress):
                    if samples:
                        self._evaluate(samples)
                        per_image = self.counts.forwards / self.counts.images
                        progress.set_postfix_str(f"{per_image:.3g} forwards per image", refresh=False)
                    self.in_hand += places
                    progress.update(len(places))
                    if time.monotonic() - flushed > FLUSH_SECONDS:
                        self._flush()
                        flushed = time.monotonic()
                self._flush()
            finally:
                self._flush()
                for run in self.runs:
                    run.store.skip(self.counts.skipped)

    def _batches(self, indices: Sequence[int], progress: tqdm[Any]) -> Iterator[tuple[list[int], list[Sample]]]:
        """Places of images, and those images among them that are usable; the same methods are due for these."""
        for claimed in self._shared(indices, progress):
            places, samples = list[int](), list[Sample]()
            for index in claimed:
                try:
                    sample = self._sample(index)
                except UserError:
                    yield places, samples
                    raise
                if sample is not None and samples and self._due(sample) != self._due(samples[0]):
                    yield places, samples
                    places, samples = [], []
                places.append(index)
                samples += [] if sample is None else [sample]
                if len(samples) >= self.limit.rows:
                    yield places, samples
                    places, samples = [], []
            yield places, samples

    def _due(self, sample: Sample) -> list[MethodRun]:
        return [run for run in self.runs if sample.id in run.due]

    def _shared(self, indices: Sequence[int], progress: tqdm[Any]) -> Iterator[list[int]]:
        """The share of this process, some images at a time, until every one is stored, whoever does it."""
        open_indices = list(indices)
        began = time.monotonic()
        while open_indices:
            pace = (time.monotonic() - began) / progress.n if progress.n else CLAIM_SECONDS
            rows = self.limit.rows
            most = max(min(int(CLAIM_SECONDS / pace), MOST_CLAIMED) // rows, 1) * rows
            claimed = self.lease.claim(open_indices, most)
            for run in self.runs:
                run.look_for_stored()
            due = [index for index in claimed if self._is_due(index)]
            self.lease.release({*claimed} - {*due})
            yield due
            open_indices = [index for index in open_indices if index not in claimed and self._is_due(index)]
            progress.total = progress.n + len(open_indices)
            if open_indices and not claimed:
                self._flush()  # others may wait for these
                progress.set_postfix_str(f"waiting for {len(open_indices)} images of other processes")
                time.sleep(WAIT_SECONDS)

    def _is_due(self, index: int) -> bool:
        """Whether the image is not known to be stored. A repeated id is due until it was looked at and named."""
        return index in self.repeats or any(self.ids[index] in run.due for run in self.runs)

    def _flush(self) -> None:
        """Write what is computed, and let other processes see that it is."""
        for run in self.runs:
            run.flush()
        self.lease.release(self.in_hand)
        self.in_hand.clear()

    def _sample(self, index: int) -> Sample | None:
        """The sample, or None for an unusable one that is left out."""
        try:
            return self.task.dataset[index]
        except UserError as error:
            if not self.options.skip_bad:
                raise
            id = f"{self.ids[index]} (again)" if index in self.repeats else self.ids[index]
            self.counts.skipped[id] = error.problem
            return None

    def _evaluate(self, samples: Sequence[Sample]) -> None:
        due = self._due(samples[0])
        self._note_conditions(due)
        methods = [run.method for run in due]
        for scored in score(self.backbone, self.task, methods, samples, self.noise, self.limit):
            self.counts.images += 1
            self.counts.forwards += scored.forwards
            for run, answer in zip(due, scored.by_method, strict=True):
                if self.options.strict:
                    _refuse_not_finite(run.method, self.task, scored.sample, answer)
                self.masks.keep(run.store.folder, scored.sample, answer)
                run.add(self.task, scored.sample, answer, scored.forwards, self.memory.read())
        self._note_conditions(due)  # memory may have run out for as many rows

    def _note_conditions(self, together: Sequence[MethodRun]) -> None:
        """Remember what these methods are computed on and that they share it, before the first image of them all."""
        names = tuple(run.method.name + run.method.variant for run in together)
        device, threads = str(self.backbone.device), torch.get_num_threads()
        conditions = Conditions(self.machine, device, threads, names, self.limit.rows)
        if conditions not in self.noted:
            for run in together:
                note_conditions(run.store.folder, conditions)
            self.noted.append(conditions)

    def _title(self) -> str:
        rank, world = rank_and_world()
        share = f", share {rank + 1} of {world}" if world > 1 else ""
        methods = f"{len(self.runs)} methods"
        if len(self.runs) <= NAMED_METHODS:
            methods = ", ".join(run.method.name + run.method.variant for run in self.runs)
        return f"{self.backbone.name} x {methods} on {self.task.dataset.name}{share}"


def _refuse_not_finite(method: Method, task: Task, sample: Sample, answer: MethodScores) -> None:
    if answer.not_finite:
        problem = f"{method.name} on {task.dataset.name} image {sample.id}: {answer.not_finite} scores are not finite"
        raise UserError(problem, "check the weights and --dtype, or leave --strict out to count such scores")


def machine() -> Machine:
    """This machine and what is installed on it."""
    packages = {name: version(name) for name in PACKAGES}
    return Machine(platform.platform(), platform.machine(), os.cpu_count() or 1, packages)


def _new_run(plan: RunPlan, task: Task, options: RunOptions, wanted: int) -> StoredRun:
    return StoredRun(
        run_id=plan.run_id,
        plan=plan,
        table_rules=task.table_rules,
        classes=task.class_names,
        background_id=task.background_id,
        split_images=len(task.dataset),
        captions=task.dataset.caption_gaps,
        machine=machine(),
        wanted=wanted,
        sources=Sources.of(options),
    )


def _note_parameters(store: RunStore, backbone: Backbone) -> None:
    stored = store.read()
    parameters = sum(parameter.numel() for parameter in backbone.denoiser.parameters())
    if stored.parameters != parameters:
        store.write(replace(stored, parameters=parameters))
