"""What the scaling question is asked of: stored runs and measurements, published numbers, and earlier tables."""

from __future__ import annotations

from pathlib import Path

from segscale.errors import UserError

from ..report.evaluated import evaluate_runs
from ..runs.store import run_folders
from .choices import ScalingQuestion
from .power_record import find_power
from .published_power import read_published_power
from .resampling import resample
from .scaling import LEAST_BACKBONES, measured_subjects, published_subjects
from .scaling_files import Scaled, joined, read_scaling
from .scaling_tables import subject_table


def published_scaling(question: ScalingQuestion, results: Path, published: Path) -> Scaled:
    """Stored runs with published power. Raises UserError, see ``published_subjects``."""
    subjects = published_subjects(question, evaluate_runs(results), read_published_power(published))
    return Scaled(subject_table(subjects), resample(subjects))


def measured_scaling(question: ScalingQuestion, results: Path, earlier: Path | None) -> Scaled:
    """Stored runs with measured power, and the backbones of earlier tables that have none here.

    Raises:
        UserError: See ``measured_subjects``, ``read_scaling`` and ``joined``.
    """
    before = None if earlier is None else _earlier(question, earlier)
    least = LEAST_BACKBONES if before is None else max(LEAST_BACKBONES - len(before.backbones), 0)
    runs = evaluate_runs(results) if before is None or run_folders(results) else []
    subjects = measured_subjects(question, runs, find_power(results), least)
    scaled = Scaled(subject_table(subjects), resample(subjects))
    return scaled if before is None else joined(scaled, before)


def _earlier(question: ScalingQuestion, folder: Path) -> Scaled:
    """Raises UserError where its runs are of another dataset or protocol."""
    before = read_scaling(folder, question.method_names)
    for backbone in before.backbones:
        if (backbone.dataset, backbone.protocol) != (question.dataset_name, question.protocol_name):
            problem = f"{backbone.name} in {folder} was run on {backbone.dataset} by {backbone.protocol}"
            raise UserError(problem, f"add --dataset {backbone.dataset} --protocol {backbone.protocol}")
    return before
