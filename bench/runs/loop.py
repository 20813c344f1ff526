"""The run loop: every image through the forwards that its methods share, pixel counts into the run store."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from segscale.errors import UserError

from ...backbones.backbone import Backbone
from ...datasets.dataset import Sample
from ...methods.method import Method
from ..inference.answers import ScoredImage, refuse_not_finite
from ..inference.batch import BatchLimit
from ..inference.memory import PeakMemory
from ..inference.score import AskedImage, Scoring, image_noise
from ..tasks.task import Task
from .conditions import Conditions, machine, note_conditions
from .launcher import rank_and_world
from .leases import HeldLease
from .masks import MaskKeeper
from .method_run import MethodRun
from .options import RunOptions
from .parts import ImageRecord
from .plan import BackbonePlan, make_plan, new_run, plan_backbone, run_folder
from .reader import ImageReader, ReadImage, workers_beside
from .share import ImageShare, own_first
from .stage import Stage
from .store import RunStore
from .verify import DataOnDisk, refuse_changed

FLUSH_SECONDS = 5.0
COMPACTION = -1
"""Claimed as if it were an image: one process merges the parts of finished runs."""
NOT_COUNTED = 2
"""Images per counting thread that are scored and not yet counted; beyond these no batch is given to the model."""
NAMED_METHODS = 6
"""More methods than these make a title too long to read."""


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
    return run_planned(plan_backbone(backbone_name, options), methods, task)


def run_planned(planned: BackbonePlan, methods: Sequence[Method], task: Task) -> list[RunStore]:
    """As ``run_methods``, of a backbone that is named and not loaded yet, with its options."""
    options = planned.options
    rank, world = rank_and_world()
    ids = task.dataset.ids
    indices = range(len(ids))[: options.limit]
    wanted_ids = frozenset(ids[index] for index in indices)
    masks = MaskKeeper(task, options.save_masks)
    disk = DataOnDisk(task.dataset)
    runs: list[MethodRun] = []
    for method in methods:
        plan = make_plan(planned.identity, method, task, options.seed)
        store = RunStore(run_folder(options.results, plan), rank)
        store.start(new_run(plan, task, options, len(indices)), ids)
        refuse_changed(store, disk)
        masks.warn_of_stored(store.folder, store.done())
        runs.append(MethodRun(method, store, wanted_ids - store.done()))
    pending_indices = [index for index in own_first(indices, rank, world) if any(ids[index] in run.due for run in runs)]
    # A run.json that was written anew lacks what only the backbone knows.
    unknown = any(run.store.done() and run.store.read().parameters is None for run in runs)
    asks_backbone = bool(pending_indices or unknown)
    held = HeldLease(options.results, (run.store.folder.name for run in runs))
    if asks_backbone or held.is_shared or any(run.store.is_scattered for run in runs):
        with held as lease:
            if asks_backbone:
                backbone = planned.load()
                parameters = sum(parameter.numel() for parameter in backbone.denoiser.parameters())
                for run in runs:
                    run.note_parameters(parameters)
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
        raise UserError(problem, f"see all that is wrong: {task.dataset.check_command}")


@dataclass(frozen=True)
class _CountedImage:
    """One image, ready to be stored."""

    place: int
    """In the dataset."""
    records: tuple[tuple[MethodRun, ImageRecord], ...]


_Counting = Callable[[], _CountedImage]


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
        self.backbone, self.task, self.runs, self.options = backbone, task, runs, options
        self.masks = masks
        self.limit = BatchLimit(options.batch)
        self.scoring = Scoring(backbone, task, image_noise(backbone, task, options.seed), self.limit)
        self.memory = PeakMemory(backbone.device)
        workers = workers_beside(backbone.device) if options.workers is None else options.workers
        self.share = ImageShare(task.dataset, runs, lease, self.limit, ImageReader(task.dataset, workers))
        # One batch is ready while another is in the model.
        self.model: Stage[list[_Counting]] = Stage("model", min(workers, 1), 1, torch.get_num_threads())
        # One core each: the others are the model's.
        self.counting: Stage[_CountedImage] = Stage("counting", workers, NOT_COUNTED, 1)
        self.counts = LoopCounts()
        self.in_hand: set[int] = set()
        """Places of images that need nothing but to be written."""
        self.unusable: UserError | None = None
        """What is wrong with the image that ends the loop."""
        self.together: list[MethodRun] = []
        """Of the batch that was given last."""
        self.machine = machine()
        self.noted: list[Conditions] = []

    def over(self, indices: Sequence[int]) -> None:
        """Evaluate the images at ``indices``; what is done is stored, whatever ends the loop."""
        self.memory.reset()
        flushed = time.monotonic()
        with tqdm(total=len(indices), desc=self._title(), unit="image") as progress, self.counting, self.model:
            try:
                with closing(self._batches(indices, progress)) as batches:
                    for batch in batches:
                        self._give(batch, progress)
                        self._have_counted(self.model.each_done(), progress)
                        self._collect(self.counting.each_done())
                        if time.monotonic() - flushed > FLUSH_SECONDS:
                            self._flush()
                            flushed = time.monotonic()
                self._store_all(progress)
            finally:
                self.model.drop_waiting()
                self._store_counted()  # before the batch in the model is waited for
                self._have_counted(self.model.each_whole(), progress)
                self._store_counted()
                for run in self.runs:
                    run.store.skip(self.counts.skipped)

    def _batches(self, indices: Sequence[int], progress: tqdm[Any]) -> Generator[list[tuple[int, Sample]]]:
        """Usable images with their places; of one batch, the same methods are due for all."""
        for images in self.share.passes(indices, progress, partial(self._store_all, progress)):
            yield from self.limit.batches(self._usable(images, progress), lambda image: self._due(image[1]))
            if self.unusable is not None:
                self._store_all(progress)
                raise self.unusable

    def _usable(self, images: Iterable[ReadImage], progress: tqdm[Any]) -> Iterator[tuple[int, Sample]]:
        """Images that methods are due for, up to the first one that cannot be used, unless such are left out."""
        for place, read in images:
            if isinstance(read, UserError) and not self.options.skip_bad:
                self.unusable = read
                return
            if isinstance(read, Sample) and self._due(read):
                yield place, read
            else:
                self._pass_over(place, read)
                progress.update()

    def _pass_over(self, place: int, read: Sample | UserError) -> None:
        if isinstance(read, UserError):
            self.counts.skipped[self.share.name(place)] = read.problem
        self.in_hand.add(place)

    def _due(self, sample: Sample) -> list[MethodRun]:
        return [run for run in self.runs if sample.id in run.due]

    def _collect(self, images: Iterable[_CountedImage]) -> None:
        for image in images:
            for run, record in image.records:
                run.keep(record)
            self.in_hand.add(image.place)

    def _have_counted(self, batches: Iterable[list[_Counting]], progress: tqdm[Any]) -> None:
        for batch in batches:
            for work in batch:
                self.counting.give(work)
            per_image = self.counts.forwards / self.counts.images
            progress.set_postfix_str(f"{per_image:.3g} forwards per image", refresh=False)
            progress.update(len(batch))

    def _store_counted(self) -> None:
        self._collect(self.counting.each_whole())
        self._flush()

    def _store_all(self, progress: tqdm[Any]) -> None:
        self._have_counted(self.model.each_done(wait=True), progress)
        self._collect(self.counting.each_done(wait=True))
        self._flush()

    def _flush(self) -> None:
        """Write what is computed, and let other processes see that it is."""
        for run in self.runs:
            run.flush()
        self.share.release(self.in_hand)
        self.in_hand.clear()

    def _give(self, batch: Sequence[tuple[int, Sample]], progress: tqdm[Any]) -> None:
        due = self._due(batch[0][1])
        if due != self.together:
            # New methods have prompts tokenized; no tokenizer serves two threads.
            self._have_counted(self.model.each_done(wait=True), progress)
            self.together = due
        self._note_conditions(due)
        asked = self.scoring.ask([run.method for run in due], [sample for _, sample in batch])
        self.model.give(partial(self._evaluate, [place for place, _ in batch], asked, due))

    def _evaluate(
        self, places: Sequence[int], asked: Sequence[AskedImage], due: Sequence[MethodRun]
    ) -> list[_Counting]:
        """Score images, and say how to count them; runs in the model's thread."""
        scored = self.scoring.answer(asked)
        peak_bytes = self.memory.read()
        for image in scored:
            self.counts.images += 1
            self.counts.forwards += image.forwards
            if self.options.strict:
                refuse_not_finite([run.method for run in due], self.task.dataset.name, image)
        self.limit.fit(self.memory)
        self._note_conditions(due)  # memory may have run out for as many rows
        return [partial(self._count, *of_image, due, peak_bytes) for of_image in zip(places, scored, strict=True)]

    def _count(self, place: int, image: ScoredImage, due: Sequence[MethodRun], peak_bytes: int) -> _CountedImage:
        """Runs in a thread."""
        records: list[tuple[MethodRun, ImageRecord]] = []
        for run, answer in zip(due, image.by_method, strict=True):
            self.masks.keep(run.store.folder, image.sample, answer)
            records.append((run, run.record(self.task, image, answer, peak_bytes)))
        return _CountedImage(place, tuple(records))

    def _note_conditions(self, together: Sequence[MethodRun]) -> None:
        """Remember what these methods are computed on and that they share it, before the first image of them all."""
        names = tuple(run.method.name + run.method.variant for run in together)
        device, threads = str(self.backbone.device), torch.get_num_threads()
        conditions = Conditions(self.machine, device, threads, names, self.limit.rows, self.limit.chunk_share)
        if conditions not in self.noted:
            for run in together:
                note_conditions(run.store.folder, conditions)
            self.noted.append(conditions)

    def _title(self) -> str:
        rank, world = rank_and_world()
        share = f", rank {rank} of {world}" if world > 1 else ""
        methods = f"{len(self.runs)} methods"
        if len(self.runs) <= NAMED_METHODS:
            methods = ", ".join(run.method.name + run.method.variant for run in self.runs)
        return f"{self.backbone.name} x {methods} on {self.task.dataset.name}{share}"
