"""The pictures that a user names: files, folders, standard input, a generated scene."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

from segscale.errors import UserError

from ...datasets.files import DAMAGED, REPLACE, WITHOUT_RANGE, FileError, check_regular, in_rgb, read_image
from ...datasets.own_folder import pictures_in
from ...datasets.pocket import make_scene

STANDARD_INPUT = "-"
READABLE = "give a picture that Pillow can read, such as PNG or JPEG"
EXAMPLE_SCENE = 12
EXAMPLE_EDGE = 384
"""Scenes are small; larger ones show more of a heat map."""
PictureLike = str | Path | Image.Image | ArrayLike
"""A path, a picture, or an array ``(height, width)`` or ``(height, width, 3 or 4)``: uint8, or floats in [0, 1]."""


@dataclass(frozen=True)
class PictureFile:
    """A picture that was named, not yet read."""

    stem: str
    """Begins the names of its output files; a picture in a folder keeps its path there."""
    path: Path | None
    """None for standard input."""

    @property
    def source(self) -> str | None:
        """What a summary says that its masks are of."""
        return None if self.path is None else str(self.path.resolve())

    @property
    def file_name(self) -> str:
        """As datasets name it: relative to the folder that was named."""
        return self.stem if self.path is None else f"{self.stem}{self.path.suffix}"

    def check(self) -> None:
        """Raises UserError for a file that is no picture, or of values of unknown range, by its first bytes."""
        if self.path is None:
            return
        try:
            check_regular(self.path)
            with Image.open(self.path) as image:
                is_known = image.mode not in WITHOUT_RANGE
        except (FileError, OSError, Image.DecompressionBombError):
            is_known = False
        if not is_known:
            self.read()

    def read(self) -> Image.Image:
        """The picture as a viewer shows it. Raises UserError for one that cannot be read."""
        return read_picture(self.path) if self.path is not None else _from_standard_input()


def picture_files(named: Sequence[str], output: Path) -> list[PictureFile]:
    """Every picture that arguments name; of a folder, without those below ``output``, which an earlier call wrote.

    Raises:
        UserError: A path is not there, a folder holds no picture or is ``output``, or output files would have one name.
    """
    files = [file for argument in named for file in _files_of(argument, output)]
    taken: dict[str, PictureFile] = {}
    for file in files:
        other = taken.setdefault(file.stem, file)
        if other is not file:
            raise UserError(
                f"{other.path} and {file.path} would write the same files", "rename one, or give them apart"
            )
    return files


def _files_of(argument: str, output: Path) -> Iterable[PictureFile]:
    if argument == STANDARD_INPUT:
        return [PictureFile("stdin", None)]
    path = Path(argument)
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no {path}", "check its name")
        return [PictureFile(path.stem, path)]
    # A folder of own pictures holds masks beside the pictures.
    root = path / "images" if (path / "images").is_dir() else path
    found = [
        PictureFile(picture.relative_to(root).with_suffix("").as_posix(), picture)
        for picture in _not_written(root, output)
    ]
    if not found:
        raise UserError(f"{root} holds no picture", READABLE)
    return found


def _not_written(root: Path, output: Path) -> Iterator[Path]:
    """Pictures of a folder. Raises UserError where ``output`` is the folder, where masks would pass for them."""
    place, written = root.resolve(), output.resolve()
    if written == place:
        raise UserError(f"masks would lie among the pictures of {root}", "choose another --output")
    if place.is_relative_to(written):
        return pictures_in(root)
    return (picture for picture in pictures_in(root) if not picture.resolve().is_relative_to(written))


def read_picture(path: Path) -> Image.Image:
    """The picture as a viewer shows it. Raises UserError for one that cannot be read."""
    try:
        return read_image(path, as_shown=True)
    except FileError as error:
        hint = READABLE if error.hint == REPLACE else error.hint
        raise UserError(error.problem, hint if path.exists() else "check its name") from error


def _from_standard_input() -> Image.Image:
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(sys.stdin.buffer.read())))
    except Image.DecompressionBombError as error:
        raise UserError(f"standard input is too large ({error})", "make it smaller") from error
    except DAMAGED as error:
        raise UserError("standard input is no picture", READABLE) from error
    return in_rgb(image, "standard input")


def picture_of(picture: PictureLike) -> Image.Image:
    """What was given as a picture. Raises UserError for what is none."""
    if isinstance(picture, Image.Image):
        try:
            return in_rgb(picture, "the picture")
        except DAMAGED as error:  # a file is read when its pixels are asked for
            raise UserError(f"the picture cannot be read ({error})", READABLE) from error
    if isinstance(picture, str | Path):
        return read_picture(Path(picture))
    values = np.asarray(picture)
    shaped = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if np.issubdtype(values.dtype, np.floating) and values.size and 0 <= values.min() <= values.max() <= 1:
        values = (values * 255).round().astype(np.uint8)
    if not shaped or not values.size or values.dtype != np.uint8:
        problem = f"an array {values.shape} of {values.dtype} is no picture"
        raise UserError(problem, "give (height, width, 3) of uint8, or of floats in [0, 1]")
    return in_rgb(Image.fromarray(values), "the picture")


@dataclass(frozen=True)
class Example:
    """A generated scene and what it shows."""

    image: Image.Image
    classes: tuple[str, ...]


def example_picture() -> Example:
    """A scene that no twin was trained on."""
    scene = make_scene(0, "val", EXAMPLE_SCENE)
    image = Image.fromarray(scene.image).resize((EXAMPLE_EDGE, EXAMPLE_EDGE), Image.Resampling.BICUBIC)
    return Example(image, scene.objects)


def shown_progress(files: Sequence[PictureFile]) -> Iterable[PictureFile]:
    """The files, of more than one with a progress bar."""
    from tqdm import tqdm

    return tqdm(files, desc="pictures", unit="picture", disable=len(files) == 1)
