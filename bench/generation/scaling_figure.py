"""The figure of scaling: mIoU against each measure of power, intervals on both axes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ...backbones.pocket.ladder import without_seed
from ..evaluation.metrics import Floats
from ..report.figures.style import new_canvas, save_figure
from ..report.tables import TableRow, table_rows

LABELS = {
    "f1": "F1 of captions (%)",
    "frechet": "Frechet distance of latents",
    "parameters": "denoiser parameters (M)",
    "fid": "FID",
    "clip_score": "CLIP score",
    "geneval": "GenEval",
}
MARKERS = "osD^vPX*"
LOGARITHMIC = ("frechet", "parameters")


def power_figure(table: pd.DataFrame, method_names: Sequence[str], path: Path) -> None:
    """Draw a panel per measure that ``table`` (of ``Resampled``) holds; methods by colour, families by marker.

    A line joins the rungs of a family that differ in training steps.
    """
    measures = [name for name in LABELS if name in table]
    figure = new_canvas(4.8 * len(measures), 4.4, layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        _panel(axes, table, method_names, measure)
    panels[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def _panel(axes: Axes, table: pd.DataFrame, method_names: Sequence[str], measure: str) -> None:
    colours = mpl.color_sequences["tab10"]
    for number, (family, rows) in enumerate(table.groupby("family")):
        for method, colour in zip(method_names, colours, strict=False):
            look = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
            x, x_error = _with_errors(rows, measure)
            y, y_error = _with_errors(rows, method)
            label = f"{family}, {method}"
            axes.errorbar(x, y, y_error, x_error, fmt="", linestyle="none", elinewidth=0.6, label=label, **look)
            along = pd.DataFrame(rows[rows["varied"] == "steps"].groupby("steps")[[measure, method]].mean())
            if measure != "parameters" and len(along) > 1:
                axes.plot(along[measure], along[method], color=colour, linewidth=0.6, alpha=0.6)
    _name_backbones(axes, table, method_names, measure)
    if measure in LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(LABELS[measure])
    axes.set_ylabel("mIoU (%)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _name_backbones(axes: Axes, table: pd.DataFrame, method_names: Sequence[str], measure: str) -> None:
    """Name every backbone over its best method's point, all seeds of a rung once.

    Of a ladder's rungs, only those of another width or depth are told apart by their parameters.
    """
    ladders = _ladders(table)
    named: Any = table.assign(
        label=[_label(row, ladders) for row in table_rows(table)],
        x=table[measure] / (1e6 if measure == "parameters" else 1),
        y=table[[*method_names]].max(axis=1),
    )
    if measure == "parameters":
        named = named[~named["family"].isin(sorted(ladders)) | named["varied"].isin(("width", "depth"))]
    for _, rows in named.groupby(["family", "label"]):
        place = (rows["x"].mean(), rows["y"].max())
        axes.annotate(rows["label"].iloc[0], place, xytext=(3, 4), textcoords="offset points", fontsize=6)


def _ladders(table: pd.DataFrame) -> set[str]:
    """Families whose rungs differ in training steps."""
    trained: Any = table[table["varied"] == "steps"].groupby("family")["steps"].nunique()
    return {str(family) for family, count in trained.items() if count > 1}


def _label(row: TableRow, ladders: Collection[str]) -> str:
    """Of a rung its steps or what was varied, such as ``width200``; of a backbone on no ladder its name."""
    if row["family"] not in ladders:
        return row["backbone"].removeprefix("pocket-")
    return str(row["steps"]) if row["varied"] == "steps" else without_seed(row["backbone"]).split("-")[-1]


def _with_errors(rows: pd.DataFrame, name: str) -> tuple[Floats, Floats | None]:
    """Values, and the lengths of their intervals ``(2, rows)``, None where there are none."""
    values = rows[name].to_numpy(float) / (1e6 if name == "parameters" else 1)
    if f"{name}_low" not in rows:
        return values, None
    lengths = [values - rows[f"{name}_low"].to_numpy(float), rows[f"{name}_high"].to_numpy(float) - values]
    return values, np.nan_to_num(np.clip(lengths, 0, None))
