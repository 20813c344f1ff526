"""Figures from the long table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter


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
        chosen = ", best threshold" if group["best_threshold"].any() else ""
        axes.set_title(f"{dataset} {split}, protocol {protocol}{chosen}")
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
