"""Runs as points of a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ...runs.identity import LORA, UNTRAINED
from ..tables import NOT_TAUGHT, TableRow, table_rows


@dataclass(frozen=True)
class Point:
    """One run; mIoU and the ends of its interval in percent, NaN where there is none."""

    task: str
    """Dataset, split and protocol."""
    method: str
    label: str
    """Of its backbone."""
    millions: float
    """Of the denoiser's parameters, NaN where they are not known."""
    miou: float
    low: float
    high: float
    seconds: float
    """Per image."""
    is_on_line: bool
    """Whether its backbone is as it was published: trained, without LoRA, and taught with no masks."""
    has_best_threshold: bool

    @property
    def highest(self) -> float:
        """The upper end of what is drawn of it."""
        return self.miou if math.isnan(self.high) else self.high


def points(table: pd.DataFrame) -> list[Point]:
    """The rows of a long table."""
    return [
        Point(
            task="{dataset} {split}, protocol {protocol}".format(**row),
            method=str(row["method"]),
            label=str(row["label"]),
            millions=math.nan if pd.isna(row["parameters"]) else float(row["parameters"]) / 1e6,
            miou=float(row["miou"]),
            low=float(row["low"]),
            high=float(row["high"]),
            seconds=float(row["seconds_per_image"]),
            is_on_line=is_on_line(row),
            has_best_threshold=row["threshold_from"] == "best",
        )
        for row in table_rows(table)
    ]


def is_on_line(row: TableRow) -> bool:
    """Whether a run's backbone is one of those whose mIoU is joined by a line over their sizes."""
    return row["training"] == NOT_TAUGHT and not any(mark in str(row["backbone"]) for mark in (LORA, UNTRAINED))


def methods_of(runs: Sequence[Point]) -> list[str]:
    """Their methods, sorted."""
    return sorted({run.method for run in runs})


def by_task(runs: Sequence[Point]) -> dict[str, list[Point]]:
    """Runs of each task, tasks sorted."""
    return {task: [run for run in runs if run.task == task] for task in sorted({run.task for run in runs})}
