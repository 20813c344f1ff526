"""What the scaling question is asked of: stored runs with measured or published power, and earlier tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from segscale.errors import UserError

from ..report.evaluated import EvaluatedRun, evaluate_runs
from ..runs.store import run_folders
from .backbone_replicates import Resampled
from .bootstrap import resample
from .choices import ScalingQuestion
from .power_record import find_power
from .published_power import read_published_power
from .scaling import LEAST_BACKBONES, Subject, measured_subjects, published_subjects
from .scaling_files import read_scaling

log = logging.getLogger(__name__)


def gather(question: ScalingQuestion, results: Path, published: Path | None, earlier: Path | None) -> Resampled:
    """Resample stored runs with their power, and add the backbones of earlier tables that have none here.

    Args:
        question: Which runs.
        results: Folder of runs and measurements.
        published: File of published power, which is taken instead of measured.
        earlier: Folder with the replicates of an earlier question.

    Raises:
        UserError: Where fewer than three backbones take part, or those that do cannot be compared.
    """
    if earlier is None:
        return resample(_subjects(question, evaluate_runs(results), results, published, LEAST_BACKBONES))
    before = read_scaling(earlier, published is not None)
    _check(question, before, earlier)
    runs = evaluate_runs(results) if run_folders(results) else []
    subjects = _subjects(question, runs, results, published, 0, before.conditions.captions)
    both = resample(subjects).joined(before) if subjects else before
    both = both.with_methods_in_order(question.method_names)
    log.info("%d backbones have runs here, %d are added", len(subjects), len(both.backbones) - len(subjects))
    if len(both.backbones) < LEAST_BACKBONES:
        problem = f"{len(both.backbones)} backbones take part, {LEAST_BACKBONES} are needed"
        raise UserError(problem, "make more with: segscale power BACKBONE, and: segscale run")
    return both


def _subjects(
    question: ScalingQuestion,
    runs: Sequence[EvaluatedRun],
    results: Path,
    published: Path | None,
    least: int,
    captions: str | None = None,
) -> list[Subject]:
    if published is not None:
        return published_subjects(question, runs, read_published_power(published), least)
    return measured_subjects(question, runs, find_power(results), least, captions)


def _check(question: ScalingQuestion, before: Resampled, folder: Path) -> None:
    """Raises UserError where earlier tables do not answer the question."""
    known = before.conditions
    asked = {
        "dataset": (question.dataset_name, known.dataset),
        "protocol": (question.protocol_name, known.protocol),
        "split": (question.split or known.split, known.split),
        "seed": (known.seed if question.seed is None else question.seed, known.seed),
    }
    for option, (wanted, stored) in asked.items():
        if wanted != stored:
            raise UserError(f"the tables in {folder} are of {option} {stored}", f"ask for it: --{option} {stored}")
    if {*question.method_names} != {*before.method_names}:
        names = ",".join(before.method_names)
        raise UserError(f"the tables in {folder} are of method {names}", f"ask for it: --method {names}")
