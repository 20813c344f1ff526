"""The IoU of every class as bars, methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ...evaluation.metrics import Floats
from .style import Looks, legend_below, new_figure, plain

CLASSES = 40
"""More classes than these make the figure too tall; the best and the worst half of so many are drawn."""
BAR_INCHES, GAP_INCHES = 0.07, 0.11


def class_figure(classes: Sequence[str], ious: Mapping[str, Floats], looks: Looks, title: str) -> Figure | None:
    """Bars of several methods.

    Args:
        classes: Names.
        ious: By method, the IoU of every class in percent, NaN where it is neither predicted nor labelled.
        looks: Of every method.
        title: Of the figure.

    Returns:
        The figure, classes sorted by their mean; None where no class has an IoU.
    """
    values = np.array([*ious.values()])
    known = np.flatnonzero(~np.isnan(values).all(0))
    if not len(known):
        return None
    means = np.nanmean(values[:, known], 0)
    order: list[int] = known[np.argsort(-means, kind="stable")].tolist()
    if len(order) > CLASSES:
        title += f", the best and the worst {CLASSES // 2} of {len(order)} classes"
        order = order[: CLASSES // 2] + order[-(CLASSES // 2) :]
    step = GAP_INCHES + BAR_INCHES * len(ious)
    figure, (axes,) = new_figure(6.4, max(1.5, step * len(order)))
    share = BAR_INCHES / step
    for place, name in enumerate(sorted(ious)):
        y = np.arange(len(order)) + share * (place - (len(ious) - 1) / 2)
        look, widths = looks[name], np.nan_to_num(ious[name][order])
        axes.barh(y, widths, share, label=name, color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0)
    axes.set_yticks(range(len(order)), [plain(classes[id]) for id in order], fontsize=8)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(0, min(100.0, 1.05 * float(np.nanmax(values))))
    axes.set_xlabel("IoU (%)")
    axes.set_title(plain(title), fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    legend_below(figure, axes, columns=min(5, len(ious)))
    return figure
