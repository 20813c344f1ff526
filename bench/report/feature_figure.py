"""Pictures of image tokens: principal components as colours, blocks across, kinds of features down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .figures.style import new_canvas, save_figure


def features_figure(pixels: NDArray[np.uint8], maps: Mapping[tuple[str, str], NDArray[np.float32]], path: Path) -> None:
    """Draw the image, and the map ``(height, width, 3)`` of every site and kind."""
    sites, kinds = (list(dict.fromkeys(names)) for names in zip(*maps, strict=True))
    figure = new_canvas(1.2 * (len(sites) + 1), 1.3 * len(kinds))
    figure.subplots_adjust(left=0.03, right=0.99, bottom=0.02, top=0.92, wspace=0.05, hspace=0.08)
    panels = figure.subplots(len(kinds), len(sites) + 1, squeeze=False)
    for row, kind in enumerate(kinds):
        panels[row][0].imshow(pixels)
        panels[row][0].set_ylabel(kind, fontsize=8)
        for column, site in enumerate(sites, 1):
            panels[row][column].imshow(maps[site, kind], interpolation="nearest")
            if row == 0:
                panels[row][column].set_title(site, fontsize=6)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    save_figure(figure, path)
