"""Power against the strength of guidance in print and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..report.figures.style import curve, new_canvas, save_figure
from ..report.markdown import markdown_table
from ..report.tables import table_rows
from .power_tables import format_columns, spec_of
from .scaling_figure import LABELS

SHOWN = ("f1", "recall", "precision", "frechet", "fid", "clip_score")
DIFFERENCE = ("difference", "difference_low", "difference_high")


def strengths_text(table: pd.DataFrame) -> str:
    """Markdown: a row per measure and method, a column per scale; below, what it differs by from the reference."""
    header = "{backbone} on {images} captions of {prompts}, {steps} steps, seed {seed}".format(**table.iloc[0])
    cells: dict[tuple[str, str], dict[str, str]] = {}
    rows = [row for row in table_rows(table) if row["measure"] in SHOWN]
    for row in sorted(rows, key=lambda row: SHOWN.index(row["measure"])):
        text = format_columns(row, ("value", "low", "high"), spec_of(row["measure"]))
        cells.setdefault((row["measure"], row["method"]), {})[f"{row['scale']:g}"] = text
        if added := format_columns(row, DIFFERENCE, f"+{spec_of(row['measure'])}"):
            difference = f"{row['measure']} less {row['reference']}"
            cells.setdefault((difference, row["method"]), {})[f"{row['scale']:g}"] = added
    scales = [f"{scale:g}" for scale in sorted(table["scale"].unique())]
    shown = [[*names, *(row.get(scale, "-") for scale in scales)] for names, row in cells.items()]
    return f"{header}\n\n{markdown_table(pd.DataFrame(shown), ['measure', 'method', *scales])}"


def strengths_figure(table: pd.DataFrame, path: Path) -> None:
    """A panel per measure: its value with 95 % interval against the scale, one curve per method."""
    measures = [name for name in SHOWN if name in set(table["measure"])]
    figure = new_canvas(4.4 * len(measures), 3.8, layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        rows: Any = table[table["measure"] == measure].astype({"low": float, "high": float})
        for method, of_method in rows.groupby("method", sort=False):
            curve(axes, "scale", "value", of_method, str(method))
        axes.set_xlabel("guidance scale")
        axes.set_ylabel(LABELS.get(measure, f"{measure} (%)"))
        axes.set_title(str(table.iloc[0]["backbone"]))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save_figure(figure, path)
