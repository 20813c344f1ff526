"""What quality costs: the mIoU against the time of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .points import Point, methods_of
from .style import LABEL_SIZE, MARKERS, Looks, logarithmic_x, new_figure, plain

MARGIN = 1.3


def cost_figure(runs: Sequence[Point], looks: Looks, title: str) -> Figure | None:
    """Runs of one task, colours by method and markers by backbone; None where no time is known.

    Times are of the machines that the runs were made on, and only those of one machine can be compared.
    """
    timed = [run for run in runs if run.seconds > 0 and not math.isnan(run.miou)]
    if not timed:
        return None
    by_size = dict.fromkeys(run.label for run in sorted(timed, key=lambda run: (run.millions, run.label)))
    markers = {label: MARKERS[place % len(MARKERS)] for place, label in enumerate(by_size)}
    figure, (axes,) = new_figure(6.4, 4.0)
    for run in timed:
        axes.plot(run.seconds, run.miou, markers[run.label], color=looks[run.method].colour, markersize=6, alpha=0.85)
    seconds = [run.seconds for run in timed]
    logarithmic_x(axes, min(seconds) / MARGIN, max(seconds) * MARGIN)
    axes.set_ylim(0, max(run.miou for run in timed) * 1.08)
    axes.set_xlabel("seconds per image")
    axes.set_ylabel("mIoU (%)")
    axes.set_title(plain(title), fontsize=10)
    axes.grid(alpha=0.3)
    methods = [_mark("s", looks[name].colour, name) for name in methods_of(timed)]
    backbones = [_mark(marker, "0.4", label) for label, marker in markers.items()]
    for handles, name, y in ((methods, "method", 0.5), (backbones, "backbone", 0.0)):
        # Both begin beside the plot; the second one at its lower end.
        figure.legend(
            handles=handles,
            title=name,
            loc="lower left",
            bbox_to_anchor=(1.01, y),
            fontsize=LABEL_SIZE,
            frameon=False,
        )
    return figure


def _mark(marker: str, colour: str, name: str) -> Line2D:
    return Line2D([], [], marker=marker, linestyle="", color=colour, label=name)
