"""The run loop: every image through the forwards that its methods share, pixel counts into the run store."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from tqdm import tqdm

from segscale.errors import UserError

from ...backbones.backbone import Backbone
from ...datasets.dataset import Sample
from ...methods.method import Method
from ..inference.memory import PeakMemory
from ..inference.score import MethodScores, image_noise, score
from ..tasks.task import Task
from .identity import RunPlan
from .launcher import rank_and_world
from .options import RunOptions
from .parts import ImageRecord
from .plan import make_plan, plan_backbone, run_folder
from .record import ForwardCounts, Machine, StoredRun
from .store import RunStore

FLUSH_SECONDS = 5.0
NAMED_METHODS = 6
"""More methods than these make a title too long to read."""
PACKAGES = ("torch", "diffusers", "transformers", "mmsegmentation", "numpy")


@dataclass
class MethodRun:
    """One method's share of the loop."""

    method: Method
    store: RunStore
    due: frozenset[str]
    """Ids of images that are not stored yet."""
    pending: list[ImageRecord] = field(default_factory=list)
    """Computed and not written yet."""
    forwards: list[int] = field(default_factory=list)
    """Of each image, if the method were alone."""
    captioned: int = 0
    """Images whose prompt a caption made."""

    def add(self, task: Task, sample: Sample, answer: MethodScores, memory: PeakMemory) -> None:
        """Count the pixels of one image."""
        start = time.perf_counter()
        counts = task.count(answer.scores, answer.prompts.class_ids, sample)
        seconds = answer.seconds + time.perf_counter() - start
        measured = (seconds, memory.read(), task.evaluated_pixels(sample))
        undefined = (answer.not_finite, answer.cut_classes)
        self.pending.append(ImageRecord(sample.id, *measured, counts, *undefined))
        self.forwards.append(len(answer.prompts.texts))
        self.captioned += answer.prompts.captioned

    def flush(self) -> None:
        """Write what is pending."""
        if self.pending:
            self.store.append(self.pending)
            self.pending.clear()


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
    planned = plan_backbone(backbone_name, options)
    runs: list[MethodRun] = []
    for method in methods:
        plan = make_plan(planned.identity, method, task, options.seed)
        store = RunStore(run_folder(options.results, plan), rank)
        store.start(_new_run(plan, task), ids)
        runs.append(MethodRun(method, store, rank_ids - store.done()))
    pending_indices = [index for index in rank_indices if any(ids[index] in run.due for run in runs)]
    # A run.json that was written anew lacks what only the backbone knows.
    unknown = any(run.store.done() and run.store.read().parameters is None for run in runs)
    if pending_indices or unknown:
        backbone = planned.load()
        for run in runs:
            _note_backbone(run.store, backbone)
        _Loop(backbone, task, runs, options).over(pending_indices)
    for run in runs:
        _note_progress(run.store, len(indices))
    _refuse_nothing_left(runs[0].store, task, len(indices))
    return [run.store for run in runs]


def _refuse_nothing_left(store: RunStore, task: Task, images: int) -> None:
    """Raise UserError where every image was left out."""
    skipped = store.skipped()
    if images and len(skipped) >= images and not store.done():
        problem = f"all {images} images were left out, such as {min(skipped)}: {min(skipped.items())[1]}"
        raise UserError(problem, f"see all that is wrong: segscale data check {task.dataset.name}")


class _Loop:
    """One pass of a backbone over images."""

    def __init__(self, backbone: Backbone, task: Task, runs: list[MethodRun], options: RunOptions) -> None:
        self.backbone, self.task, self.runs, self.options = backbone, task, runs, options
        self.noise = image_noise(backbone, task, options.seed)
        self.memory = PeakMemory(backbone.device)
        self.counts = LoopCounts()

    def over(self, indices: Sequence[int]) -> None:
        """Evaluate the images at ``indices``; what is done is stored, whatever ends the loop."""
        self.memory.reset()
        flushed = time.monotonic()
        progress = tqdm(indices, desc=self._title(), unit="image")
        try:
            for index in progress:
                sample = self._sample(index)
                if sample is None:
                    continue
                self._evaluate(sample)
                per_image = self.counts.forwards / self.counts.images
                progress.set_postfix_str(f"{per_image:.3g} forwards per image", refresh=False)
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    for run in self.runs:
                        run.flush()
                    flushed = time.monotonic()
        finally:
            for run in self.runs:
                run.flush()
                run.store.skip(self.counts.skipped)
                self._note_forwards(run)

    def _sample(self, index: int) -> Sample | None:
        """The sample, or None for an unusable one that is left out."""
        try:
            return self.task.dataset[index]
        except UserError as error:
            if not self.options.skip_bad:
                raise
            ids = self.task.dataset.ids
            id = f"{ids[index]} (again)" if ids[index] in ids[:index] else ids[index]
            self.counts.skipped[id] = error.problem
            return None

    def _evaluate(self, sample: Sample) -> None:
        due = [run for run in self.runs if sample.id in run.due]
        (scored,) = score(self.backbone, self.task, [run.method for run in due], [sample], self.noise)
        self.counts.images += 1
        self.counts.forwards += scored.forwards
        for run, answer in zip(due, scored.by_method, strict=True):
            if self.options.strict:
                _refuse_not_finite(run.method, self.task, sample, answer)
            run.add(self.task, sample, answer, self.memory)

    def _note_forwards(self, run: MethodRun) -> None:
        if not run.forwards:
            return
        stored = run.store.read()
        forwards = ForwardCounts(
            asked=stored.forwards.asked + len(run.forwards),
            captioned=stored.forwards.captioned + run.captioned,
            alone=sum(run.forwards) / len(run.forwards),
            per_image=self.counts.forwards / self.counts.images,
            shared_by=tuple(other.method.name for other in self.runs),
        )
        run.store.write(replace(stored, forwards=forwards))

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


def _new_run(plan: RunPlan, task: Task) -> StoredRun:
    packages = {name: version(name) for name in PACKAGES}
    return StoredRun(
        run_id=plan.run_id,
        plan=plan,
        table_rules=task.table_rules,
        classes=task.class_names,
        background_id=task.background_id,
        split_images=len(task.dataset),
        captions=task.dataset.caption_gaps,
        machine=Machine(platform.platform(), platform.machine(), os.cpu_count() or 1, packages=packages),
    )


def _note_backbone(store: RunStore, backbone: Backbone) -> None:
    stored = store.read()
    parameters = sum(parameter.numel() for parameter in backbone.denoiser.parameters())
    machine = replace(stored.machine, device=str(backbone.device))
    store.write(replace(stored, parameters=parameters, machine=machine))


def _note_progress(store: RunStore, due: int) -> None:
    done = len(store.done())
    finished = done + len(store.skipped()) >= due
    if finished:
        store.compact()
    store.write(replace(store.read(), status="complete" if finished else "running", images=done))
