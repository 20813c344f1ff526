"""Images, labels and what methods predict: the best, the median, the worst and a random image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from ...runs.masks import label_path, mask_path, picture_path, pictured_images
from ..comparison import image_miou
from ..evaluated import EvaluatedRun
from .style import LABEL_SIZE, new_canvas, plain

CELL_INCHES = 1.5
LEGEND_CLASSES = 24


@dataclass(frozen=True)
class Example:
    """An image, and why it is shown."""

    why: str
    image: str


def chosen_examples(images: Sequence[str], miou: Mapping[str, float]) -> list[Example]:
    """The best, median, worst and a random one of the images by their mIoU; each image once.

    The random one is the same for the same images. Images without a class have no mIoU and are left out.
    """
    ranked = sorted((image for image in images if not np.isnan(miou[image])), key=lambda image: (-miou[image], image))
    if not ranked:
        return []
    chosen = {ranked[0]: "best"}
    chosen.setdefault(ranked[len(ranked) // 2], "median")
    chosen.setdefault(ranked[-1], "worst")
    if rest := [image for image in sorted(ranked) if image not in chosen]:
        chosen[rest[int(np.random.default_rng(len(rest)).integers(len(rest)))]] = "random"
    return [Example(why, image) for image, why in chosen.items()]


def example_figure(runs: Mapping[str, EvaluatedRun], title: str) -> Figure | None:
    """One row per image, one column per run; the mean of all runs ranks images. None where no mask was kept of all.

    Masks are those of ``run --save-masks``, at the protocol's threshold; the IoU below each is at the table's.
    """
    kept = [{*pictured_images(run.folder)} for run in runs.values()]
    if not (pictured := set.intersection(*kept)):
        return None
    miou = {name: dict(zip(run.counts.images, image_miou(run), strict=True)) for name, run in runs.items()}
    # After a kill an image may have a mask and no counts.
    images = sorted(pictured.intersection(*miou.values()))
    mean = {image: float(np.mean([of_run[image] for of_run in miou.values()])) for image in images}
    examples = chosen_examples(images, mean)
    if not examples:
        return None
    figure = new_canvas(CELL_INCHES * (2 + len(runs)), CELL_INCHES * len(examples))
    cells = figure.subplots(len(examples), 2 + len(runs), squeeze=False)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.04, hspace=0.18)
    folder = next(iter(runs.values())).folder
    for row, example in zip(cells, examples, strict=True):
        shown = [picture_path(folder, example.image), label_path(folder, example.image)]
        shown += [mask_path(run.folder, example.image) for run in runs.values()]
        below = ["", "", *(f"{100 * of_run[example.image]:.0f} %" for of_run in miou.values())]
        for axes, path, text in zip(row, shown, below, strict=True):
            with Image.open(path) as image:
                axes.imshow(np.asarray(image.convert("RGB")), interpolation="nearest", aspect="equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(text, fontsize=LABEL_SIZE, labelpad=2)
        row[0].set_ylabel(f"{example.why}\n{plain(example.image)}", fontsize=LABEL_SIZE)
    for axes, name in zip(cells[0], ("image", "label", *runs), strict=True):
        axes.set_title(name, fontsize=LABEL_SIZE)
    figure.suptitle(plain(title), fontsize=10, y=1 + 0.35 / figure.get_figheight(), va="bottom")
    _legend(figure, next(iter(runs.values())), [label_path(folder, example.image) for example in examples])
    return figure


def _legend(figure: Figure, run: EvaluatedRun, labels: Sequence[Path]) -> None:
    """Colours of the classes that the labels of the figure show."""
    shown: dict[int, str] = {}
    for path in labels:
        with Image.open(path) as image:
            palette = image.getpalette() or []
            for id in np.unique(np.asarray(image)):
                shown[int(id)] = f"#{bytes(palette[3 * id : 3 * id + 3]).hex()}"
    names = run.run.classes
    handles = [Patch(color=colour, label=plain(names[id])) for id, colour in sorted(shown.items()) if id < len(names)]
    figure.legend(
        handles=handles[:LEGEND_CLASSES],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.25 / figure.get_figheight()),
        ncols=6,
        fontsize=LABEL_SIZE,
        frameon=False,
    )
