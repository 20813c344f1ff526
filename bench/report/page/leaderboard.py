"""The page's leaderboard: every cell as tables write it, beside the number that it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..markdown import MAP_TITLE, MIOU_TITLE, format_parameters, ranking
from ..tables import TASK_COLUMNS, TableRow, table_rows, was_taught

FILTERS = (*TASK_COLUMNS, "backbone", "method")
"""Columns whose values a reader chooses from."""
SORTED_BY = {
    "parameters": "parameters",
    MIOU_TITLE: "miou",
    "threshold": "threshold",
    "aAcc": "accuracy",
    MAP_TITLE: "mean_ap",
    "images": "images",
    "seed": "seed",
    "forwards": "forwards",
    "s / image": "seconds_per_image",
    "peak MiB": "peak_mib",
}
"""By the title of a column of numbers, the long table's column that holds them."""


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    value: str | None
    """The number to sort by, None for a text."""
    is_bold: bool
    """Whether it is the mIoU of the best run of its task, or of one not significantly worse."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One run."""

    identity: str
    filtered_by: dict[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Leaderboard:
    """All runs, by task and best first."""

    titles: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]
    choices: dict[str, tuple[str, ...]]
    """The values of every column of ``FILTERS``."""


def page_leaderboard(table: pd.DataFrame) -> Leaderboard:
    """The leaderboard of the long table."""
    ranked = table.sort_values([*TASK_COLUMNS, "miou"], ascending=[True, True, True, False], ignore_index=True)
    shown = ranking(ranked)
    shown.insert(3, "parameters", ranked["parameters"].map(format_parameters))
    if was_taught(ranked):
        shown.insert(4, "training", ranked["training"])
    for place, column in enumerate(TASK_COLUMNS):
        shown.insert(4 + place, column, ranked[column])
    rows = zip(table_rows(shown), table_rows(ranked), strict=True)
    choices = {column: tuple(sorted(ranked[column].unique())) for column in FILTERS}
    return Leaderboard(tuple(shown.columns), tuple(_row(texts, row) for texts, row in rows), choices)


def _row(texts: TableRow, row: TableRow) -> LeaderboardRow:
    cells = tuple(
        Cell(str(text), _value(title, row), title == MIOU_TITLE and bool(row["best_of_task"]))
        for title, text in texts.items()
    )
    filtered_by = {column: str(row[column]) for column in FILTERS}
    return LeaderboardRow(str(row["identity"]), filtered_by, cells)


def _value(title: str, row: TableRow) -> str | None:
    """Without a number the value is empty, which sorts last."""
    if title not in SORTED_BY:
        return None
    number = row[SORTED_BY[title]]
    return "" if pd.isna(number) else f"{number:.6g}"
