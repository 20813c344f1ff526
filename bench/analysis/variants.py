"""Variants of methods on the same images: run together, and each read at the threshold that suits it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...methods.method import Method
from ..evaluation.intervals import Sample
from ..report.evaluated import EvaluatedRun, evaluate_run
from ..report.files import ANALYSIS_FOLDER
from ..report.thresholds import Thresholds
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..tasks.task import Task


def evaluate_variants(
    backbone_name: str, methods: Sequence[Method], task: Task, options: RunOptions
) -> list[EvaluatedRun]:
    """Evaluate methods on the images that are asked for and that all of them have, in the methods' order.

    Runs are stored below ``options.results / "analysis"`` and resumed. A store may hold more images from an earlier
    run, or less in a shared one.
    """
    stores = run_methods(backbone_name, methods, task, replace(options, results=options.results / ANALYSIS_FOLDER))
    asked = frozenset(task.dataset.ids[: options.limit])
    images = asked.intersection(*(store.done() for store in stores))
    thresholds = Thresholds(options.results)
    return [evaluate_run(store, thresholds, images) for store in stores]


def at_best_threshold(evaluated: EvaluatedRun) -> Sample:
    """What the mIoU at the best threshold of these images is estimated from; raw attention knows no threshold.

    No variant is calibrated, and one threshold for all would favour those whose scores it happens to suit.
    """
    if not evaluated.plan.method.normalised:
        return evaluated.sample
    run = evaluated.run
    return evaluated.counts.sample("best", run.table_rules.averaging, run.split_images)
