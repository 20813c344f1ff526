"""Boundary scores of one run as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..evaluation.boundary_score import BoundaryScore
from ..evaluation.intervals import Estimate
from .markdown import format_share, markdown_table
from .tables import NO_INTERVAL_MARK

MEAN = "mean"


def boundary_table(score: BoundaryScore, classes: Sequence[str]) -> str:
    """One line per class and one of the mean, in percent, and why intervals are missing.

    Args:
        score: Of a run.
        classes: Names in the order of the score's classes.
    """
    rows = [
        {"class": name, "F-score": _cell(c.f_score), "precision": _cell(c.precision), "recall": _cell(c.recall)}
        for name, c in zip(classes, score.classes, strict=True)
    ]
    rows.append({"class": MEAN, "F-score": _cell(score.mean_f_score), "precision": "", "recall": ""})
    parts = [markdown_table(pd.DataFrame(rows)), *_notes(score)]
    return "\n\n".join(parts)


def _cell(estimate: Estimate) -> str:
    return "-" if np.isnan(estimate.value) else format_share(estimate)


def _notes(score: BoundaryScore) -> list[str]:
    shown = [score.mean_f_score, *(e for c in score.classes for e in (c.f_score, c.precision, c.recall))]
    reasons = {estimate.no_interval for estimate in shown if not np.isnan(estimate.value)} - {None}
    return [f"{NO_INTERVAL_MARK} No interval: {reason}." for reason in sorted(map(str, reasons))]
