"""The mIoU against the size of the denoiser: a line per method over the backbones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .points import Point, by_task, methods_of
from .style import Looks, labels_on_top, legend_below, logarithmic_x, new_figure, plain

# Ratio between the places of neighbouring methods along the axis of parameters.
DODGE = 1.008
MARGIN = 1.2
"""Ratio between the smallest and largest size and the ends of the axis."""


def scaling_figure(runs: Sequence[Point], looks: Looks) -> Figure | None:
    """One panel per task, of tasks with a single backbone only where there are no others.

    None where no denoiser's size is known.
    """
    panels = by_task([run for run in runs if not math.isnan(run.millions + run.miou)])
    if not panels:
        return None
    several = {task: of_task for task, of_task in panels.items() if len({run.label for run in of_task}) > 1}
    panels = several or panels
    figure, every_axes = new_figure(6.4, 4.0, len(panels))
    for axes, (task, of_task) in zip(every_axes, panels.items(), strict=True):
        _panel(axes, of_task, looks)
        chosen = ", best threshold" if any(run.has_best_threshold for run in of_task) else ""
        axes.set_title(plain(f"{task}{chosen}"), fontsize=10)
    methods = methods_of(runs)
    for name in methods:
        look = looks[name]
        every_axes[0].plot([], [], look.marker, color=look.colour, linestyle=look.dash, label=name)
    legend_below(figure, every_axes[0], columns=min(5 * len(panels), len(methods)))
    return figure


def _panel(axes: Axes, runs: Sequence[Point], looks: Looks) -> None:
    sizes = [run.millions for run in runs]
    logarithmic_x(axes, min(sizes) / MARGIN, max(sizes) * MARGIN)
    methods = methods_of(runs)
    for place, method in enumerate(methods):
        look = looks[method]
        # Side by side, so that methods of one backbone do not hide each other.
        aside = DODGE ** (place - (len(methods) - 1) / 2)
        of_method = sorted((run for run in runs if run.method == method), key=lambda run: run.millions)
        for run in of_method:
            error = [[np.nan_to_num(run.miou - run.low)], [np.nan_to_num(run.high - run.miou)]]
            axes.errorbar(
                run.millions * aside,
                run.miou,
                error,
                fmt=look.marker,
                markersize=4,
                capsize=2,
                color=look.colour,
                elinewidth=1,
            )
        line = _line([run for run in of_method if run.is_on_line])
        axes.plot([x * aside for x in line], [*line.values()], color=look.colour, linestyle=look.dash, linewidth=1)
    labels = {run.label: run.millions for run in runs}
    labels_on_top(axes, sorted(labels.items(), key=lambda label: label[1]), max(run.highest for run in runs))
    axes.set_xlabel("denoiser parameters (M)")
    axes.set_ylabel("mIoU (%) with 95 % interval")
    axes.grid(alpha=0.3, axis="y")


def _line(runs: Sequence[Point]) -> dict[float, float]:
    """By size, the mean of the runs of that size, such as several seeds."""
    return {
        size: float(np.mean([run.miou for run in runs if run.millions == size])) for size in (r.millions for r in runs)
    }
