"""What all figures of results have in common: styles that are told apart without colour, ticks, labels and files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from segscale.files import replaced_bytes
from segscale.places import make_folder

from ..selection import ImageFormat

DOTS_PER_INCH = 150
COLOURS = (
    *("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE"),
    *("#882255", "#44AA99", "#999933", "#AA4499", "#000000"),
)
"""Told apart with any kind of colour vision: Tol's scheme "muted" (SRON/EPS/TN/09-002, 2021) and black."""
MARKERS = "osD^vPX<>"
Dash = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
HATCHES = ("", "////", "....", "xxxx")
LABEL_SIZE = 8
MIN_TICKS = 3
TICK_DIGITS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
"""First digits of ticks on a logarithmic axis, ever closer."""


@dataclass(frozen=True)
class Style:
    """How one method looks in every figure."""

    colour: str
    marker: str
    dash: Dash
    hatch: str


Looks = Mapping[str, Style]
"""By name of a method."""


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for every name. Colours come back after ten names, with another marker, dash and hatch."""
    return {
        name: Style(
            COLOURS[place % len(COLOURS)],
            MARKERS[place % len(MARKERS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
            HATCHES[place // len(COLOURS) % len(HATCHES)],
        )
        for place, name in enumerate(sorted(names))
    }


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure whose panels beside each other are each of this size in inches, whatever stands around them."""
    figure = new_canvas(width * panels, height)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.25)
    return figure, [*axes]


def new_canvas(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def curve(axes: Axes, x: str, y: str, rows: pd.DataFrame, label: str) -> Line2D:
    """Column ``y`` of ``rows`` against column ``x``, with the interval from column ``low`` to ``high``."""
    (line,) = axes.plot(rows[x], rows[y], marker="o", markersize=4, label=label)
    axes.fill_between(rows[x], rows["low"], rows["high"], alpha=0.2)
    return line


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of ``axes`` below the whole figure, where it takes nothing from the plot."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.55 / figure.get_figheight()),
        ncols=columns,
        fontsize=LABEL_SIZE,
        frameon=False,
    )


def plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def log_ticks(low: float, high: float) -> list[float]:
    """At least three round numbers from ``low`` to ``high``; the fewest that are three."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in TICK_DIGITS:
        ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        if len(shown := [tick for tick in ticks if low <= tick <= high]) >= MIN_TICKS:
            return shown
    return [low, math.sqrt(low * high), high]


def logarithmic_x(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with at least three ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def labels_on_top(axes: Axes, labels: Sequence[tuple[str, float]], highest: float) -> None:
    """Names at places of the x axis, in rows above all that is drawn up to ``highest``, none over another or outside.

    The y axis grows by what the rows need.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer, box = canvas.get_renderer(), axes.get_window_extent()
    texts = [axes.text(0, 0, name, fontsize=LABEL_SIZE, ha="center", va="bottom") for name, _ in labels]
    sizes = [text.get_window_extent(renderer) for text in texts]
    gap = 0.3 * max((size.height for size in sizes), default=0)
    row_ends: list[float] = []
    placed: list[tuple[float, int]] = []
    for (_, x), size in zip(labels, sizes, strict=True):
        middle = axes.transData.transform((x, 1.0))[0]
        middle = min(max(middle, box.x0 + size.width / 2 + gap), box.x1 - size.width / 2 - gap)
        left = middle - size.width / 2
        row = next((row for row, end in enumerate(row_ends) if end + gap < left), len(row_ends))
        row_ends[row : row + 1] = [middle + size.width / 2]
        placed.append((middle, row))
    height = gap + max((size.height for size in sizes), default=0)
    top_share = 1 - (gap + height * len(row_ends)) / box.height
    axes.set_ylim(0, highest / max(top_share - 0.03, 0.2))
    for text, (_, x), (middle, row) in zip(texts, labels, placed, strict=True):
        bottom = 1 - (height * (row + 1)) / box.height
        text.set_transform(axes.transAxes)
        text.set_position(((middle - box.x0) / box.width, bottom))
        axes.plot([x, x], [0, bottom], transform=axes.get_xaxis_transform(), color="0.85", linewidth=0.8, zorder=0)


def drawn(figure: Figure, image_format: ImageFormat) -> bytes:
    """The file of a figure with all that stands around its panels; the same figure gives the same bytes."""
    file = io.BytesIO()
    metadata = {"Software": None} if image_format == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": "segscale"}):
        figure.savefig(
            file, format=image_format, dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.1, metadata=metadata
        )
    return file.getvalue()


def save_figure(figure: Figure, path: Path, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a PNG of the whole canvas; the same figure gives the same bytes."""
    make_folder(path.parent)
    with replaced_bytes(path) as file:
        figure.savefig(file, format="png", dpi=dots_per_inch, metadata={"Software": None})
