"""The mIoU at every stored threshold of the background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import MIN_TICKS, Looks, legend_below, new_figure, plain


@dataclass(frozen=True)
class Sweep:
    """One run over its thresholds."""

    thresholds: tuple[float, ...]
    miou: tuple[float, ...]
    """In percent."""
    chosen: float
    """The threshold that tables read."""


def threshold_figure(sweeps: Mapping[str, Sweep], looks: Looks, title: str) -> Figure | None:
    """A curve per method, a marker where tables read it; None where no run has more than one threshold."""
    swept = {name: sweep for name, sweep in sweeps.items() if len(sweep.thresholds) > 1}
    if not swept:
        return None
    figure, (axes,) = new_figure(6.4, 3.6)
    for name in sorted(swept):
        sweep = swept[name]
        look = looks[name]
        axes.plot(
            sweep.thresholds,
            sweep.miou,
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            markevery=[sweep.thresholds.index(sweep.chosen)],
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(min_n_ticks=MIN_TICKS))
    axes.set_xlabel("threshold (the marker is what tables read)")
    axes.set_ylabel("mIoU (%)")
    axes.set_title(plain(title), fontsize=10)
    axes.grid(alpha=0.3)
    legend_below(figure, axes, columns=min(5, len(swept)))
    return figure
