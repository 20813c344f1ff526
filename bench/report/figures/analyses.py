"""Figures of analyses: layers, heads and joint attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .style import curve, new_canvas, save_figure


@dataclass(frozen=True)
class AnalysisView:
    """What one command shows of the measures of joint blocks."""

    name: str
    """Of its files."""
    panels: Mapping[str, Mapping[str, str]]
    """Of its figure: title -> measure -> label."""
    axis: str
    """What the numbers are, after multiplication by ``scale``."""
    scale: float
    digits: int
    """Decimals in print."""
    bounds: tuple[float, float]
    """What a measure cannot pass."""

    @property
    def labels(self) -> dict[str, str]:
        """The label of every measure."""
        return {measure: label for panel in self.panels.values() for measure, label in panel.items()}


def analysis_figure(table: pd.DataFrame, analysis: AnalysisView, path: Path) -> None:
    """Measures against the joint blocks, means with 95 % interval, one panel each as the analysis says."""
    figure = new_canvas(5.2 * len(analysis.panels), 4.2, layout="constrained")
    first = table.iloc[0]
    panels = figure.subplots(1, len(analysis.panels), squeeze=False)[0]
    for axes, (title, labels) in zip(panels, analysis.panels.items(), strict=True):
        bottom = 0.0
        for measure, label in labels.items():
            rows: Any = table[table["measure"] == measure]
            scaled = rows.assign(**{column: analysis.scale * rows[column] for column in ("low", "mean", "high")})
            curve(axes, "layer", "mean", scaled, label)
            bottom = min(bottom, float(scaled["low"].min()))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        axes.set_ylabel(analysis.axis)
        axes.set_ylim(bottom=bottom)
        axes.set_title(f"{first['backbone']} on {first['dataset']} {first['split']}, {title}")
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def latents_figure(table: pd.DataFrame, path: Path) -> None:
    """Accuracy of a linear classifier against noise, and the variance of every component of mask latents."""
    figure = new_canvas(10.4, 4.2, layout="constrained")
    noisy, components = figure.subplots(1, 2)
    for kind in ("masks", "pictures"):
        curve(noisy, "at", "mean", pd.DataFrame(table[(table["measure"] == "accuracy") & (table["of"] == kind)]), kind)
    noisy.set_xlabel("sigma")
    noisy.set_ylabel("balanced accuracy of a linear classifier")
    noisy.grid(alpha=0.3)
    noisy.legend()
    rows = table[table["measure"] == "variance"]
    errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    components.bar(rows["at"], rows["mean"], yerr=errors, capsize=3)
    components.xaxis.set_major_locator(MaxNLocator(integer=True))
    components.set_xlabel("principal component of mask latents")
    components.set_ylabel("share of variance")
    figure.suptitle("{vae} on {dataset} {split}, {images} images".format(**table.iloc[0]))
    save_figure(figure, path)


def layers_figure(table: pd.DataFrame, path: Path) -> None:
    """The mIoU with 95 % interval of every block alone, the best one marked; methods compared as horizontal lines."""
    figure = new_canvas(6.4, 4.2, layout="constrained")
    axes = figure.subplots()
    parts: Any = table[table["layer"].notna()]
    compared: Any = table[table["layer"].isna()]
    curve(axes, "layer", "miou", parts.astype({"layer": int}), _read_by(table))
    best = parts.loc[parts["miou"].idxmax()]
    axes.annotate(best["site"], (best["layer"], best["miou"]), xytext=(0, 7), textcoords="offset points", ha="center")
    for number, (_, row) in enumerate(compared.iterrows(), 1):
        colour = mpl.color_sequences["tab10"][number % 10]
        axes.axhline(row["miou"], linestyle="--", color=colour, label=row["method"])
        axes.axhspan(row["low"], row["high"], alpha=0.1, color=colour)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("mIoU (%)")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.set_title(_measured_on(table))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def heads_figure(table: pd.DataFrame, path: Path) -> None:
    """Heat map of the mIoU of every head alone, one row per block, the best one framed."""
    parts: Any = table[table["layer"].notna()].astype({"head": int})
    sites = parts.drop_duplicates("site")["site"].tolist()
    wide = parts.pivot(index="site", columns="head", values="miou").loc[sites]
    numbers = wide.to_numpy()
    figure = new_canvas(2.8 + 0.5 * wide.shape[1], 1.4 + 0.36 * len(sites), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(numbers, cmap="viridis", vmin=0, aspect="auto")
    middle = parts["miou"].max() / 2
    for _, part in parts.iterrows():
        colour = "black" if part["miou"] > middle else "white"
        place = (part["head"], sites.index(part["site"]))
        axes.text(*place, f"{part['miou']:.0f}", ha="center", va="center", fontsize=7, color=colour)
    best = parts.loc[parts["miou"].idxmax()]
    corner = (best["head"] - 0.5, sites.index(best["site"]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
    axes.set_xticks(range(wide.shape[1]))
    axes.set_yticks(range(len(sites)), sites, fontsize=7)
    axes.set_xlabel("head")
    figure.colorbar(image, label="mIoU (%)")
    axes.set_title(f"{_measured_on(table)}\n{_read_by(table)}, one head each", fontsize=10)
    save_figure(figure, path)


def timesteps_figure(table: pd.DataFrame, path: Path) -> None:
    """The mIoU with 95 % interval against the timestep, one curve per method, its best marked."""
    figure = new_canvas(6.4, 4.2, layout="constrained")
    axes = figure.subplots()
    for name, rows in table.groupby("method", sort=False):
        line = curve(axes, "timestep", "miou", rows, str(name))
        best = rows.loc[rows["miou"].idxmax()]
        axes.plot(best["timestep"], best["miou"], marker="*", markersize=13, color=line.get_color())
    axes.set_xlabel("timestep t")
    axes.set_ylabel("mIoU (%), best threshold")
    axes.set_ylim(bottom=0)
    axes.set_title(_measured_on(table))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def ablation_figure(table: pd.DataFrame, path: Path) -> None:
    """What each exchange adds to the mIoU, in points with 95 % interval, one line per cell."""
    cells: Any = table.iloc[1:].iloc[::-1]
    figure = new_canvas(6.4, 1.2 + 0.24 * len(cells), layout="constrained")
    axes = figure.subplots()
    places = range(len(cells))
    axes.hlines(places, cells["difference_low"], cells["difference_high"], linewidth=2)
    axes.plot(cells["difference"], places, "o", markersize=4)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(places, cells["axis"] + ": " + cells["value"], fontsize=7)
    axes.set_xlabel("mIoU less that of the method, points")
    axes.set_title(f"{table.iloc[0]['method']}, {_measured_on(table)}", fontsize=10)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _measured_on(table: pd.DataFrame) -> str:
    return "{backbone} on {dataset} {split} ({protocol})".format(**table.iloc[0])


def _read_by(table: pd.DataFrame) -> str:
    return str(table.iloc[0]["method"]).partition("@")[0]
