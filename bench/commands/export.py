"""Kept masks in the form that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .command import command
from .steps import print_written

_output = "the file, by default coco.json in the folder of the run"


@command(examples=["segscale export pocket-sd15/vanilla", "segscale export pocket-sd15/vanilla --output masks.json"])
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", type=options.FILE, metavar="FILE", help=_output)
@options.results
def export(run: str, output: Path | None, results: Path) -> None:
    """Write the kept masks of a stored run as a COCO dataset. RUN is named as for segscale compare."""
    from segscale.files import explained_writes

    from ..pictures.coco import CocoWriter
    from ..report.evaluated import evaluate_runs
    from ..report.pairs import select_one
    from ..runs.masks import kept_masks, no_masks

    chosen = select_one(evaluate_runs(results), run)
    categories = {id: name for id, name in enumerate(chosen.run.classes) if id != chosen.run.background_id}
    coco = CocoWriter(categories)
    for image, ids in kept_masks(chosen.folder):
        coco.add(image, ids)
    if not coco.images:
        raise no_masks(chosen.folder)
    path = output or chosen.folder / "coco.json"
    with explained_writes(path.parent, "--output"):
        coco.write(path)
    print_written(path)
