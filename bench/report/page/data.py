"""What the page's script draws, as plain values that become JSON: tasks, runs, comparisons, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...evaluation.metrics import Score
from ...runs.conditions import read_conditions
from ...runs.record import run_text
from ..evaluated import EvaluatedRun
from ..figures.points import is_on_line
from ..markdown import format_miou
from ..tables import TableRow, table_rows

CLASS_CURVE_NUMBERS = 250_000
"""More IoU of single classes at every threshold than these make the page too large; they are left out then."""
DECIMALS = 1
"""Of percent, as tables print it; a script that rounds once more would show other numbers than they do."""
PROVENANCE = ("run_id", "plan", "table_rules", "split_images", "parameters", "captions", "machine")
"""Fields of ``run.json``; the class names are those of the task, and folders on this machine are nobody's business."""
Percent = float | None
"""None where there is no number."""


@dataclass(frozen=True)
class PageTask:
    """Runs of one task can stand in one figure."""

    name: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class PageRun:
    """One run; all shares in percent."""

    id: str
    task: int
    """Place of its task."""
    backbone: str
    method: str
    parameters: float | None
    is_on_line: bool
    """Whether it is joined with other sizes."""
    miou: Percent
    low: Percent
    high: Percent
    text: str
    """The mIoU as tables show it."""
    threshold: float
    """The one that tables read."""
    curve: tuple[Percent, ...]
    """The mIoU at every threshold of the task."""
    best: int
    """Place of the best threshold."""
    class_iou: tuple[Percent, ...]
    """At the table's threshold."""
    class_curves: tuple[tuple[Percent, ...], ...] | None
    """At every threshold of the task, for every class; None where the page would become too large."""


@dataclass(frozen=True)
class PageRuns:
    """All runs in the order of the long table."""

    tasks: tuple[PageTask, ...]
    runs: tuple[PageRun, ...]
    has_class_curves: bool


def page_runs(evaluated: Sequence[EvaluatedRun], table: pd.DataFrame) -> PageRuns:
    """The numbers of every row of ``table``, the long table of these runs."""
    by_id = {run.run.run_id: run for run in evaluated}
    rows = table_rows(table)
    ordered = [by_id[row["identity"]] for row in rows]
    tasks = [_task(run, row) for run, row in zip(ordered, rows, strict=True)]
    places = {task: place for place, task in enumerate(dict.fromkeys(tasks))}
    small = sum(len(task.classes) * len(task.thresholds) for task in tasks) <= CLASS_CURVE_NUMBERS
    runs = (_page_run(run, row, places[task], small) for run, row, task in zip(ordered, rows, tasks, strict=True))
    return PageRuns(tuple(places), tuple(runs), small)


def provenance(run: EvaluatedRun) -> dict[str, Any]:
    """What a run is and what computed it."""
    stored = json.loads(run_text(run.run))
    conditions = [asdict(each) for each in read_conditions(run.folder)]
    return {name: stored[name] for name in PROVENANCE} | {"conditions": conditions}


def percent(share: float) -> Percent:
    """A share in percent, rounded."""
    return None if np.isnan(share) else round(100 * float(share), DECIMALS)


def _task(run: EvaluatedRun, row: TableRow) -> PageTask:
    name = "{dataset} {split}, protocol {protocol}".format(**row)
    return PageTask(name, run.run.classes, run.counts.thresholds)


def _page_run(run: EvaluatedRun, row: TableRow, task: int, with_class_curves: bool) -> PageRun:
    low, high = run.miou.bounds
    return PageRun(
        id=run.run.run_id,
        task=task,
        backbone=str(row["label"]),
        method=str(row["method"]),
        parameters=None if pd.isna(row["parameters"]) else float(row["parameters"]),
        is_on_line=is_on_line(row),
        miou=percent(run.score.miou),
        low=percent(low),
        high=percent(high),
        text=format_miou(row),
        threshold=run.threshold,
        curve=tuple(percent(score.miou) for score in run.sweep),
        best=run.counts.thresholds.index(run.counts.best_threshold(run.run.table_rules.averaging)),
        class_iou=_class_iou(run, run.score),
        class_curves=_class_curves(run) if with_class_curves else None,
    )


def _class_curves(run: EvaluatedRun) -> tuple[tuple[Percent, ...], ...]:
    return tuple(zip(*(_class_iou(run, score) for score in run.sweep), strict=True))


def _class_iou(run: EvaluatedRun, score: Score) -> tuple[Percent, ...]:
    return tuple(map(percent, run.class_iou(score)))
