"""The table of referring segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..evaluation.intervals import Estimate
from ..evaluation.referring import PRECISIONS, referring_score
from .evaluated import EvaluatedRun
from .markdown import count_marks, format_estimate, markdown_table
from .tables import (
    NO_INTERVAL_MARK,
    TASK_COLUMNS,
    distinguishing,
    grouped,
    interval_columns,
    table_rows,
    was_taught,
    with_labels,
)

NAMES = [*TASK_COLUMNS, "method", "label", "training", "samples"]
TITLES = {"ciou": "cIoU", "giou": "gIoU", **{f"precision_{limit:g}": f"P@{limit:g}" for limit in PRECISIONS}}


def referring_table(evaluated: Sequence[EvaluatedRun]) -> pd.DataFrame:
    """One row per run of a referring protocol, metrics in percent; docs/results.md says what each column holds."""
    rows = [_row(run) for run in evaluated if run.plan.task.protocol.asks_expressions]
    return with_labels(pd.DataFrame(rows)) if rows else pd.DataFrame()


def _row(evaluated: EvaluatedRun) -> dict[str, object]:
    run, plan = evaluated.run, evaluated.plan
    (target,) = (place for place in range(len(run.classes)) if place != run.background_id)
    score = referring_score(evaluated.counts.at_threshold(evaluated.threshold), target)
    row: dict[str, object] = {
        **plan.task.columns,
        "method": plan.method.label,
        "backbone": plan.backbone.label,
        "training": plan.backbone.training,
        "samples": len(evaluated.counts),
        "not_finite": evaluated.summary.not_finite,
        "cut_classes": evaluated.summary.cut_classes,
        **distinguishing(plan),
    }
    for name, estimate in zip(TITLES, (score.ciou, score.giou, *score.precision), strict=True):
        row |= _columns(name, estimate)
    return row | {"identity": run.run_id}


def _columns(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: 100 * estimate.value, **interval_columns(estimate, f"{name}_")}


def referring_text(table: pd.DataFrame) -> str:
    """Markdown, a part per dataset, split and protocol; the column ``training`` is there where something was taught."""
    parts: list[str] = []
    texts = {title: _texts(table, name) for name, title in TITLES.items()}
    cells = table[NAMES].astype({"samples": str}).assign(**texts).rename(columns={"label": "backbone"})
    kept = cells if was_taught(table) else cells.drop(columns="training")
    for (dataset, split, protocol), group in grouped(kept, TASK_COLUMNS):
        parts.append(f"{dataset} {split}, protocol {protocol}, in percent:")
        parts.append(markdown_table(group.drop(columns=TASK_COLUMNS).sort_values(["method", "backbone"])))
    reasons = {reason for name in TITLES for reason in table[f"{name}_no_interval"].dropna()}
    return "\n\n".join([*parts, *(f"{NO_INTERVAL_MARK} No interval: {reason}." for reason in sorted(reasons))])


def referring_sections(table: pd.DataFrame) -> list[str]:
    """Lines of the leaderboard, none of an empty table."""
    return ["## Referring segmentation", "", referring_text(table), ""] if len(table) else []


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    return [
        format_estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], mark=count_marks(row))
        for row in table_rows(table)
    ]
