"""Power against the strength of guidance in print and as a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from ..report.figures.style import curve, new_canvas, save_figure
from ..report.markdown import format_estimate, markdown_table
from ..report.tables import table_rows
from .scaling_figure import LABELS

SHOWN = ("f1", "recall", "precision", "frechet", "fid", "clip_score")


def strengths_text(table: pd.DataFrame) -> str:
    """Markdown: a row per measure and method, a column per scale; F1 also less that of plain guidance."""
    rows = table_rows(table)
    header = "{backbone} on {images} captions of {prompts}, {steps} steps, seed {seed}".format(**rows[0])
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: SHOWN.index(row["measure"]) if row["measure"] in SHOWN else len(SHOWN)):
        if row["measure"] not in SHOWN:
            continue
        spec = ".2f" if row["measure"] == "frechet" else ".1f"
        text = format_estimate(row["value"], *_ends(row, "low", "high"), spec)
        cells.setdefault((row["measure"], row["method"]), {})[f"{row['scale']:g}"] = text
        if not _missing(row.get("difference")):
            added = format_estimate(row["difference"], *_ends(row, "difference_low", "difference_high"), "+.1f")
            cells.setdefault(("f1 less cfg", row["method"]), {})[f"{row['scale']:g}"] = added
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


def _ends(row: Any, low: str, high: str) -> tuple[float, float]:
    ends = (row.get(low), row.get(high))
    return (math.nan, math.nan) if any(map(_missing, ends)) else (float(ends[0]), float(ends[1]))


def _missing(number: object) -> bool:
    return number is None or (isinstance(number, float) and math.isnan(number))
