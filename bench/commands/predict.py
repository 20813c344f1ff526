"""Masks for one's own pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from segscale.catalogue import packaged_backbones
from segscale.errors import UserError
from segscale.prompt import BACKGROUND

from ...backbones.loading.options import LoadOptions
from ..pictures.kinds import Kind
from . import options
from .command import command
from .parameters import NATURAL, THRESHOLD, Names
from .steps import print_written, quiet_libraries

if TYPE_CHECKING:
    from ...datasets.class_list import ClassList
    from ..pictures.inputs import PictureFile
    from ..pictures.segmentation import Segmentation

_examples = [
    "segscale predict --example",
    'segscale predict photo.jpg --classes "star, ring"',
]
_images = "pictures, folders of pictures, or - for standard input"
_classes = "comma-separated, such as 'dog, grass'; by default those of classes.txt in a folder"
_write = f"comma-separated, of {', '.join(get_args(Kind))}"
COCO_FILE = "coco.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """Pictures, what is asked about them, and the folder of the answers."""

    images: tuple[str, ...]
    classes: tuple[str, ...] | None
    caption: str | None
    threshold: float | None
    seed: int
    example: bool


@dataclass(frozen=True)
class Output:
    """Which files are written, and where."""

    folder: Path
    kinds: tuple[Kind, ...]
    overwrite: bool


@command(examples=_examples)
@click.argument("images", nargs=-1, metavar="[PICTURE...]")
@click.option("--classes", type=Names("class"), help=_classes)
@click.option("--caption", help="a caption that gives context; words that are no class are background")
@click.option("--example", is_flag=True, help="a generated scene instead of a picture, with the objects that it shows")
@options.name("backbone", "pocket-sd15")
@options.name("method", "goca-described")
@click.option(
    "--threshold",
    type=THRESHOLD,
    help="what background gains, -1 to 1; larger finds less",
    show_default="the protocol's",
)
@click.option("--seed", type=NATURAL, default=0, help="of the noise")
@click.option("-o", "--output", "folder", type=options.FILE, metavar="FOLDER", default="out")
@click.option(
    "--write", "kinds", type=Names("file", click.Choice(get_args(Kind))), default="overlay,labels,heat", help=_write
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="also replace masks of another picture of that name, and those that were corrected or drawn by hand",
)
@options.packed("question", Question)
@options.packed("output", Output)
@options.loading
def predict(
    question: Question,
    output: Output,
    backbone_name: str,
    method_name: str,
    weights: str | None,
    load: LoadOptions,
) -> None:
    """Make masks for one's own pictures."""
    from segscale.registry import build

    from ...methods.build import build_method
    from ..pictures.coco import CocoWriter
    from ..pictures.files import refuse_long_name, write_segmentation
    from ..pictures.inputs import READABLE, shown_progress
    from ..segmenter import check_caption
    from ..segmenter import load as load_segmenter

    quiet_libraries()
    _prepare(output)
    files, classes = _asked(question, output)
    for file in files:
        refuse_long_name(file.stem, output.kinds, classes.names[1:])
        file.check()
    _refuse_others(files, output)
    check_caption(build_method(method_name, backbone_name), build("protocol", "standard"), question.caption)
    if backbone_name in packaged_backbones() and weights is None and not question.example:
        log.warning("%s knows generated scenes only, not photographs; see: segscale predict --example", backbone_name)
    segmenter = load_segmenter(backbone_name, method_name, weights, threshold=question.threshold, **asdict(load))
    names = classes.names[1:]
    coco = CocoWriter(dict(enumerate(names, 1)))
    unreadable: list[str] = []
    for file in shown_progress(files):
        try:
            image = file.read()
        except UserError as error:
            if len(files) == 1:
                raise
            log.warning("%s", error)
            unreadable.append(file.file_name)
            continue
        result = segmenter(image, names, question.caption, question.seed)
        result = replace(result, palette=classes.palette, ignored=classes.ignored)
        _tell(result, file, len(files))
        print_written(*write_segmentation(result, output.folder, file.stem, output.kinds, file.source))
        if "coco" in output.kinds:
            coco.add(file.file_name, result.labels)
    if "coco" in output.kinds:
        coco.write(output.folder / COCO_FILE)
        print_written(output.folder / COCO_FILE)
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(files)} pictures cannot be read: {', '.join(unreadable)}", READABLE)


def _asked(question: Question, output: Output) -> tuple[list[PictureFile], ClassList]:
    """Pictures and classes. Raises UserError where one of them is not named."""
    from ...datasets.class_list import ClassList
    from ..pictures.files import write_example
    from ..pictures.inputs import PictureFile, example_picture, picture_files

    if question.example:
        if question.images:
            raise UserError("--example is a picture by itself", "leave the other pictures out")
        path, example = output.folder / "example.png", example_picture()
        write_example(path, example.image)
        return [PictureFile("example", path)], ClassList.of((BACKGROUND, *(question.classes or example.classes)))
    if not question.images:
        raise UserError("no picture is named", "name one, or: segscale predict --example")
    files = picture_files(question.images, output.folder)
    if question.classes:
        return files, ClassList.of((BACKGROUND, *question.classes))
    return files, _classes_of_folder(question.images)


def _classes_of_folder(images: tuple[str, ...]) -> ClassList:
    from ...datasets.class_list import COLOURED, NAMES, read_class_list

    folder = Path(images[0])
    if len(images) > 1 or not any((folder / name).exists() for name in (NAMES, COLOURED)):
        raise UserError("there is no class to look for", "name at least one, as in --classes 'dog, grass'")
    return read_class_list(folder)


def _prepare(output: Output) -> None:
    """Finds out what would stop the writing, before anything costs time."""
    from tempfile import TemporaryFile

    from segscale.files import explained_writes

    with explained_writes(output.folder, "--output"):
        output.folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=output.folder).close()


def _refuse_others(files: Sequence[PictureFile], output: Output) -> None:
    """Raises UserError where files of other pictures, of this call, or of the user would be replaced."""
    from ..pictures.coco import pictures_named
    from ..pictures.files import refuse_others, summary_path

    coco = output.folder / COCO_FILE
    if "coco" in output.kinds and any(summary_path(output.folder, file.stem) == coco for file in files):
        raise UserError(f"{coco} would be of one picture and of all", "rename the picture")
    if output.overwrite:
        return
    for file in files:
        refuse_others(output.folder, file.stem, output.kinds, file.source)
    if "coco" in output.kinds and set(pictures_named(coco)) - {file.file_name for file in files}:
        raise UserError(f"{coco} has other pictures, too", "choose another --output, or give --overwrite")


def _tell(result: Segmentation, file: PictureFile, pictures: int) -> None:
    if pictures > 1:
        print(file.stem)
    for name, pixels in result.areas.items():
        print(f"{name:22} {100 * pixels / result.labels.size:5.1f} %")
