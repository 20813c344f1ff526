"""Figures from tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

if TYPE_CHECKING:
    from .analysis import Analysis


def scaling_figure(table: pd.DataFrame, path: Path) -> None:
    """mIoU with 95 % interval against denoiser parameters, one panel per dataset and protocol."""
    panels: list[Any] = list(table.groupby(["dataset", "split", "protocol"]))
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    colours = mpl.color_sequences["tab10"]
    for axes, ((dataset, split, protocol), group) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for number, (method, rows) in enumerate(group.groupby("method")):
            rows = rows.sort_values("parameters")
            error = [rows["miou"] - rows["low"], rows["high"] - rows["miou"]]
            colour = colours[number % len(colours)]
            axes.errorbar(
                rows["parameters"] / 1e6, rows["miou"], yerr=error, fmt="o", capsize=3, label=method, color=colour
            )
            for _, row in rows.iterrows():
                axes.annotate(
                    row["label"],
                    (row["parameters"] / 1e6, row["miou"]),
                    xytext=(6, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
        axes.margins(x=0.25)
        axes.set_xlabel("denoiser parameters (M)")
        axes.set_ylabel("mIoU (%)")
        axes.set_ylim(bottom=0)
        chosen = ", best threshold" if (group["threshold_from"] == "best").any() else ""
        axes.set_title(f"{dataset} {split}, protocol {protocol}{chosen}")
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def analysis_figure(table: pd.DataFrame, analysis: Analysis, path: Path) -> None:
    """Measures against the joint blocks, means with 95 % interval, one panel each as the analysis says."""
    figure = Figure(figsize=(5.2 * len(analysis.panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    first = table.iloc[0]
    panels = figure.subplots(1, len(analysis.panels), squeeze=False)[0]
    for axes, (title, labels) in zip(panels, analysis.panels.items(), strict=True):
        for measure, label in labels.items():
            rows = table[table["measure"] == measure]
            low, mean, high = (analysis.scale * rows[column] for column in ("low", "mean", "high"))
            axes.plot(rows["layer"], mean, marker="o", markersize=4, label=label)
            axes.fill_between(rows["layer"], low, high, alpha=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        axes.set_ylabel(analysis.axis)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{first['backbone']} on {first['dataset']} {first['split']}, {title}")
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """The same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
