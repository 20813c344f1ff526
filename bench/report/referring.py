"""The table of referring segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..evaluation.intervals import Estimate
from ..evaluation.referring import PRECISIONS, referring_score
from .evaluated import EvaluatedRun
from .markdown import format_share, markdown_table
from .tables import TASK_COLUMNS, grouped, was_taught


def referring_table(evaluated: Sequence[EvaluatedRun]) -> pd.DataFrame:
    """One row per run of a referring protocol: names, then metrics as text with intervals, in percent."""
    return pd.DataFrame([_row(run) for run in evaluated if run.plan.task.protocol.asks_expressions])


def _row(evaluated: EvaluatedRun) -> dict[str, str]:
    run, plan = evaluated.run, evaluated.plan
    (target,) = (place for place in range(len(run.classes)) if place != run.background_id)
    score = referring_score(evaluated.counts.at_threshold(evaluated.threshold), target)
    metrics: dict[str, Estimate] = {"cIoU": score.ciou, "gIoU": score.giou}
    metrics |= {f"P@{limit:g}": share for limit, share in zip(PRECISIONS, score.precision, strict=True)}
    names = {
        **plan.task.columns,
        "method": plan.method.label,
        "backbone": plan.backbone.label,
        "training": plan.backbone.training,
        "samples": str(len(evaluated.counts)),
    }
    return names | {name: format_share(estimate) for name, estimate in metrics.items()}


def referring_text(table: pd.DataFrame) -> str:
    """Markdown, a part per dataset, split and protocol; the column ``training`` is there where something was taught."""
    parts: list[str] = []
    kept = table if was_taught(table) else table.drop(columns="training")
    for (dataset, split, protocol), group in grouped(kept, TASK_COLUMNS):
        parts.append(f"{dataset} {split}, protocol {protocol}, in percent:")
        parts.append(markdown_table(group.drop(columns=TASK_COLUMNS).sort_values(["method", "backbone"])))
    return "\n\n".join(parts)
