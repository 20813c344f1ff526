"""One figure of pictures by several backbones: ``python -m segscale.bench.generation.contact_sheet``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from segscale.catalogue import training_free_backbones

from ...datasets.files import read_image
from ..report.figures.style import new_canvas, save_figure
from ..runs.options import RunOptions
from .choices import CAPTIONS, SamplingChoices
from .pictures import draw_pictures
from .prompts import captions_of_dataset
from .settings import sampling_settings

SIDE = 1.1
"""Of a picture, in inches."""


def contact_sheet(pictures: Mapping[str, Sequence[Image]], captions: Sequence[str], path: Path) -> None:
    """Draw a row of pictures for every backbone, under the captions that they share."""
    figure = new_canvas(SIDE * len(captions) + 1.2, SIDE * len(pictures) + 0.4, layout="constrained")
    rows = figure.subplots(len(pictures), len(captions), squeeze=False)
    for axes_row, (name, row) in zip(rows, pictures.items(), strict=True):
        for axes, picture in zip(axes_row, row, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        axes_row[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    for axes, caption in zip(rows[0], captions, strict=True):
        axes.set_title(caption.replace(", ", ",\n"), fontsize=6)
    save_figure(figure, path, dots_per_inch=120)


def main() -> None:
    """Draw what is missing and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default=",".join(training_free_backbones()))
    parser.add_argument("--dataset", default=CAPTIONS)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--output", type=Path, default=Path("results/figures/pictures.png"))
    arguments = parser.parse_args()
    options = RunOptions(results=arguments.results, limit=arguments.limit, batch=arguments.limit)
    prompts = captions_of_dataset(arguments.dataset, options)
    wanted = prompts.first(arguments.limit)
    pictures: dict[str, list[Image]] = {}
    for name in arguments.backbone.split(","):
        folder = draw_pictures(name, prompts, sampling_settings(name, SamplingChoices()), options)
        pictures[name] = [read_image(folder.path(prompt.id)) for prompt in wanted]
    contact_sheet(pictures, [prompt.text for prompt in wanted], arguments.output)


if __name__ == "__main__":
    main()
