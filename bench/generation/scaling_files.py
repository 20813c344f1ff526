"""Writes the files of the scaling question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segscale.files import explained_writes

from ..report.files import write_text
from .scaling_figure import power_figure
from .scaling_tables import statistics_text

NAMES = ("power.csv", "power-statistics.csv", "power-statistics.md", "figures/power.png")


def write_scaling(
    table: pd.DataFrame, statistics: pd.DataFrame, method_names: Sequence[str], results: Path
) -> list[Path]:
    """Write both tables as CSV files, the statistics also as text, and the figure; returns what was written."""
    power, numbers, text, figure = written = [results / name for name in NAMES]
    with explained_writes(results):
        write_text(power, table.to_csv(index=False))
        write_text(numbers, statistics.to_csv(index=False))
        write_text(text, statistics_text(statistics) + "\n")
        power_figure(table, method_names, figure)
    return written
