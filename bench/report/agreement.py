"""Do fresh results say what stored tables said?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segscale.errors import UserError

from .tables import TASK_COLUMNS, TableRow, table_rows

SAME_RUN = (*TASK_COLUMNS, "backbone", "method", "seed", "dtype", "quantize", "settings", "images")
"""What a row of either table is found by; versions and weights may differ, as they are what is compared."""


@dataclass(frozen=True)
class Agreement:
    """Fresh results beside expected ones."""

    compared: int
    """Runs that both have."""
    disagreements: tuple[str, ...]
    """A line for every run that differs by more, or that only one has."""


def read_expected(path: Path) -> pd.DataFrame:
    """A table that ``segscale table`` wrote as ``scaling.csv``. Raises UserError for another file."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"there are no results in {path}", "name a scaling.csv that segscale table wrote") from error
    if missing := {*SAME_RUN, "miou"} - {"settings", *map(str, table.columns)}:
        raise UserError(f"{path} has no column {min(missing)}", "name a scaling.csv that segscale table wrote")
    return table


def agreement(fresh: pd.DataFrame, expected: pd.DataFrame, tolerance: float) -> Agreement:
    """Compare the mIoU of every run.

    Args:
        fresh: Long table of stored runs.
        expected: As of ``read_expected``.
        tolerance: In points of mIoU.

    Raises:
        UserError: Two runs of one table have the same name.
    """
    ours, theirs = _miou_by_run(fresh, "stored runs"), _miou_by_run(expected, "expected runs")
    lines = [f"{_name(key)}: expected and not there" for key in theirs.keys() - ours.keys()]
    lines += [f"{_name(key)}: there and not expected" for key in ours.keys() - theirs.keys()]
    both = ours.keys() & theirs.keys()
    # Not "> tolerance", which NaN would pass.
    far = [key for key in both if not abs(ours[key] - theirs[key]) <= tolerance]
    lines += [f"{_name(key)}: {ours[key]:.2f}, expected {theirs[key]:.2f}" for key in far]
    return Agreement(len(both), tuple(sorted(lines)))


def _miou_by_run(table: pd.DataFrame, kind: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for row in table_rows(table):
        key = _key(row)
        if key in found:
            raise UserError(f"several {kind} are {_name(key)}", "keep one of them, see version, weights and identity")
        found[key] = float(row["miou"])
    return found


def _key(row: TableRow) -> tuple[str, ...]:
    # Older tables have no settings.
    values: list[Any] = [row.get(name, "") for name in SAME_RUN]
    return tuple("" if pd.isna(value) else str(value) for value in values)


def _name(key: tuple[str, ...]) -> str:
    dataset, split, protocol, backbone, method, seed, *made, images = key
    precision = ", ".join(text for text in made if text)
    return f"{method} on {backbone}, {dataset} {split} ({protocol}), seed {seed}, {precision}, {images} images"
