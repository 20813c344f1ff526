"""Masks for one's own picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segscale.errors import UserError

from ...backbones.loading.options import LoadOptions
from . import options
from .command import command
from .parameters import NATURAL, Names
from .steps import print_written, quiet_libraries

if TYPE_CHECKING:
    from PIL.Image import Image

_examples = [
    'segscale predict photo.jpg --classes "star, ring"',
    'segscale predict photo.jpg --classes star --caption "a star on water" --backbone pocket-sd3',
]


@dataclass(frozen=True)
class Question:
    """A picture, what is asked about it, and the folder of the answer."""

    image: Path
    classes: tuple[str, ...]
    caption: str | None
    seed: int
    output: Path
    overwrite: bool


@command(examples=_examples)
@click.argument("image", type=options.FILE)
@click.option("--classes", required=True, type=Names("class"), help="comma-separated, such as 'dog, grass'")
@click.option("--caption", help="a caption that gives context; words that are no class are background")
@options.name("backbone", "pocket-sd15")
@options.name("method", "goca-described")
@click.option("--seed", type=NATURAL, default=0, help="of the noise")
@click.option("-o", "--output", type=options.FILE, metavar="FOLDER", default="out")
@click.option("--overwrite", is_flag=True, help="replace the masks of another picture with the same name")
@options.packed("question", Question)
@options.loading
def predict(question: Question, backbone_name: str, method_name: str, weights: str | None, load: LoadOptions) -> None:
    """Make masks for one's own picture."""
    from ..segmenter import load as load_segmenter

    quiet_libraries()
    image = _upright(question.image)
    _prepare_output(question)
    segmenter = load_segmenter(backbone_name, method_name, weights, load)
    result = segmenter(image, question.classes, question.caption, question.seed)
    for name, pixels in result.areas.items():
        print(f"{name:22} {100 * pixels / result.labels.size:5.1f} %")
    print_written(*result.save(question.output, question.image.stem, question.image))


def _upright(path: Path) -> Image:
    """The picture as a viewer shows it."""
    from PIL import ImageOps

    from ...datasets.files import FileError, read_image

    try:
        return ImageOps.exif_transpose(read_image(path))
    except FileError as error:
        hint = "give a picture that Pillow can read, such as PNG or JPEG" if path.exists() else "check its name"
        raise UserError(error.problem, hint) from error


def _prepare_output(question: Question) -> None:
    """Finds out what would stop the writing, before anything costs time."""
    from tempfile import TemporaryFile

    from segscale.files import explained_writes

    summary = question.output / f"{question.image.stem}.json"
    with explained_writes(question.output, "--output"):
        question.output.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=question.output).close()
        if summary.exists() and not question.overwrite and _source(summary) != str(question.image.resolve()):
            raise UserError(f"{summary} is not of this picture", "choose another --output, or give --overwrite")


def _source(summary: Path) -> str | None:
    """The picture that a summary was written for, if it is one."""
    try:
        return json.loads(summary.read_bytes()).get("image")
    except (ValueError, AttributeError):
        return None
