"""Writes the files of tables, leaderboard and analyses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from segscale.files import explained_writes

from .figures import scaling_figure
from .markdown import leaderboard, scaling_table
from .tables import notes


def write_tables(rows: pd.DataFrame, classes: pd.DataFrame, results: Path) -> list[Path]:
    """The scaling table as text and figure, and both tables as CSV files; returns what was written."""
    names = ("scaling.md", "scaling.csv", "classes.csv", "figures/scaling.png")
    text, scaling, per_class, figure = written = [results / name for name in names]
    with explained_writes(results):
        text.write_text("\n\n".join([scaling_table(rows), *notes(rows)]) + "\n")
        rows.to_csv(scaling, index=False)
        classes.to_csv(per_class, index=False)
        scaling_figure(rows, figure)
    return written


def write_leaderboard(rows: pd.DataFrame, results: Path) -> Path:
    """Write leaderboard.md; returns its path."""
    path = results / "leaderboard.md"
    with explained_writes(results):
        path.write_text(leaderboard(rows))
    return path


def write_analysis(
    table: pd.DataFrame, folder: Path, stem: str, draw: Callable[[Path], None] | None = None
) -> list[Path]:
    """CSV file and, where something draws it, figure; returns what was written."""
    numbers, figure = (folder / f"{stem}.{ending}" for ending in ("csv", "png"))
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(numbers, index=False)
        if draw is None:
            return [numbers]
        draw(figure)
    return [numbers, figure]
