"""Stored runs with their score, at the threshold that tables read. No model is needed."""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from segscale.errors import EmptyRunError, StoreError, UserError

from ...datasets.folder import CALIBRATION
from ..evaluation.intervals import Estimate, SampleNumbers, estimate_class_mean, estimate_miou
from ..evaluation.metrics import Floats, Score, score_counts
from ..runs.counts import StoredCounts
from ..runs.identity import RunPlan
from ..runs.leases import leases_on
from ..runs.record import StoredRun
from ..runs.store import RunStore, find_runs
from .summary import ChosenThreshold, RunSummary, SummaryFile
from .thresholds import CalibrationSource, Thresholds

log = logging.getLogger(__name__)
READING = 2
"""Runs that are read beside each other: their images are all in memory."""

ThresholdSource = CalibrationSource | Literal["best", "default", "none"]


@dataclass(frozen=True)
class EvaluatedRun:
    """A stored run with its images and its score at ``threshold``."""

    folder: Path
    """Of the run."""
    run: StoredRun
    summary: RunSummary
    threshold_from: ThresholdSource
    """``best`` on the images evaluated, ``calibrated`` on others, calibrated and ``packaged``, the protocol's
    ``default``, or ``none``, where the rule uses none."""
    missing: int
    """Images that the last command asked for and that are neither stored nor left out."""
    at_work: tuple[str, ...]
    """Processes that compute images of it now; looked for where some are missing."""
    part: frozenset[str] | None = None
    """The images that are looked at; None for all that are stored."""

    @cached_property
    def counts(self) -> StoredCounts:
        """Of all images, at every threshold. They are read here, because tables do without."""
        counts = RunStore(self.folder).load(self.run)
        return counts if self.part is None else counts.only(self.part)

    @property
    def score(self) -> Score:
        """At ``threshold``."""
        return self.summary.score

    @property
    def threshold(self) -> float:
        """The one that tables read."""
        return self.summary.threshold

    def only(self, images: frozenset[str]) -> EvaluatedRun:
        """The run on some of its images."""
        counts = self.counts.only(images)
        chosen = "best" if self.threshold_from == "best" else self.threshold
        kept = replace(RunSummary.of(counts, chosen, self.run), threshold=self.threshold, score=self.score)
        return replace(self, summary=kept, part=images)

    @property
    def plan(self) -> RunPlan:
        """Every setting of the run."""
        return self.run.plan

    @property
    def unscored_id(self) -> int | None:
        """The background, where it can be predicted and does not count."""
        return None if self.plan.task.protocol.rules.get("background_scored", True) else self.run.background_id

    def class_iou(self, score: Score) -> Floats:
        """IoU of every class in ``score``, one of this run; NaN for a background that does not count."""
        ious = score.class_iou.copy()
        if self.unscored_id is not None:
            ious[self.unscored_id] = np.nan
        return ious

    @property
    def class_ap(self) -> Floats:
        """Average precision of every class's score, which no threshold changes; NaN for a class without scores."""
        return self.summary.class_ap

    @cached_property
    def mean_ap(self) -> Estimate:
        """Mean of ``class_ap`` over the classes that have one, NaN where none has."""
        return estimate_class_mean(self.summary.mean_ap, self.sample.too_rare)

    @cached_property
    def sweep(self) -> tuple[Score, ...]:
        """The score at every stored threshold."""
        averaging = self.run.table_rules.averaging
        return tuple(score_counts(self.counts.at_threshold(each), averaging) for each in self.counts.thresholds)

    @property
    def sample(self) -> SampleNumbers:
        """What its mIoU is estimated from: at the threshold, which is chosen anew where it is the best one."""
        return self.summary.sample

    @cached_property
    def miou(self) -> Estimate:
        """The score's mIoU with its interval."""
        return estimate_miou(self.sample)


def evaluate_run(store: RunStore, thresholds: Thresholds, images: Collection[str] | None = None) -> EvaluatedRun:
    """Score one run, or its part on ``images``, by the rules that it was stored with.

    Raises:
        StoreError: For a run that cannot be read; EmptyRunError for one without images.
    """
    run = store.read()
    chosen, source = _threshold(run, thresholds)
    if chosen != "best" and chosen not in run.plan.task.protocol.thresholds:
        task = run.plan.task
        names = f"--dataset {task.dataset.name} --protocol {task.protocol.name} --method {run.plan.method.name}"
        hint = f"choose one that it has: segscale calibrate {names} --overwrite"
        raise StoreError(f"{store.folder} has no counts at the calibrated threshold {chosen}", hint)
    part = None if images is None else frozenset(images)
    summary = _summary(store, run, chosen, part)
    stored = summary.images if part is None else len(store.done())
    missing = max(run.wanted - stored - len(store.skipped()), 0)
    at_work = tuple(lease.rank_text for lease in leases_on(store.folder)) if missing else ()
    return EvaluatedRun(store.folder, run, summary, source, missing, at_work, part)


def _summary(store: RunStore, run: StoredRun, chosen: ChosenThreshold, part: frozenset[str] | None) -> RunSummary:
    """The kept summary, or a new one, which is kept where it is of all images that are there now."""
    kept = SummaryFile(store, run, chosen)
    if part is None and (summary := kept.read()) is not None:
        return summary
    counts = store.load(run)
    if part is not None:
        counts = counts.only(part)
    if not len(counts):
        hint = "give the command that made it again, or remove the folder"
        raise EmptyRunError(f"{store.folder} holds no image yet", hint)
    summary = RunSummary.of(counts, chosen, run)
    now = SummaryFile(store, run, chosen)  # loading may have set a part aside, and another process may have added one
    if part is None and now.parts <= kept.parts:
        now.write(summary)
    return summary


@dataclass(frozen=True)
class Evaluation:
    """All runs of a folder."""

    runs: list[EvaluatedRun]
    """Those that hold an image."""
    unreadable: int
    """How many could not be read; each was named."""


def evaluate_runs(results: Path) -> list[EvaluatedRun]:
    """Score all runs below ``results`` that hold an image, see ``evaluate_all``."""
    return evaluate_all(results).runs


def evaluate_all(results: Path) -> Evaluation:
    """Score all runs below ``results``; one that cannot be read or holds no image is named and passed over.

    Raises:
        UserError: Where no run is left.
    """
    thresholds = Thresholds(results)
    evaluated: list[EvaluatedRun] = []
    unreadable = 0
    # Reading and verifying parts leaves Python's lock.
    pool = ThreadPoolExecutor(READING)
    try:
        for each in [pool.submit(evaluate_run, store, thresholds) for store in find_runs(results)]:
            try:
                evaluated.append(each.result())
            except StoreError as error:
                log.warning("%s", error)
                unreadable += not isinstance(error, EmptyRunError)
    finally:
        pool.shutdown(cancel_futures=True)
    if not evaluated:
        raise UserError(f"no run in {results}/runs holds an image", "make some with: segscale bench")
    return Evaluation(evaluated, unreadable)


def _threshold(run: StoredRun, thresholds: Thresholds) -> tuple[ChosenThreshold, ThresholdSource]:
    rules, task, method = run.table_rules, run.plan.task, run.plan.method
    if isinstance(rules.threshold, str):
        return "best", "best"
    if len(task.protocol.thresholds) == 1:
        return rules.threshold, "none"
    # Words of raw attention compete as they are: no offset is of their scale on every backbone.
    if not method.normalised:
        return 0.0, "none"
    # A variant was not calibrated. On the images it was chosen on, the threshold would be another best one; they are
    # some of the split train, and of what holds it, such as trainval.
    has_chosen = task.dataset.split == CALIBRATION or "train" in task.dataset.split
    if not (task.protocol.variant or method.variant or has_chosen):
        stored = thresholds.calibrated(task.protocol.name, task.dataset, method.name)
        if stored is not None:
            return stored
    return rules.threshold, "default"
