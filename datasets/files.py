"""Reads images and label maps from disk, or says in one line what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segscale.errors import UserError

from .labels import LabelTable

REPLACE = "replace the file from the original dataset"

Damage = Literal[
    "missing file", "wrong case", "empty file", "damaged", "not a label map", "wrong size", "unknown id", "duplicate id"
]


class FileError(UserError):
    """One unusable file. kind: what is wrong with it."""

    def __init__(self, kind: Damage, problem: str, hint: str = REPLACE) -> None:
        super().__init__(problem, hint)
        self.kind: Damage = kind


def read_image(path: Path) -> Image.Image:
    """The decoded image, in its own mode. Raises FileError."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise missing_file(path, names_in(path.parent)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if path.is_file() and path.stat().st_size == 0:
            raise FileError("empty file", f"{path} is damaged (it is empty)") from error
        raise FileError("damaged", f"{path} is damaged ({error})") from error


def names_in(folder: Path) -> frozenset[str]:
    """Names in a folder; none where there is no folder."""
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def missing_file(path: Path, names: frozenset[str]) -> FileError:
    """What to say of a path whose folder holds ``names`` and not its own."""
    other = sorted(name for name in names if name.lower() == path.name.lower())
    if other:
        return FileError("wrong case", f"there is no {path}, only {other[0]}", f"rename it to {path.name}")
    return FileError("missing file", f"there is no {path}")


def read_ids(path: Path, size: tuple[int, int] | None, table: LabelTable) -> NDArray[np.uint8]:
    """Class ids of a one-channel mask, palette indices undecoded, through ``table``. Raises FileError.

    size: width and height the mask must have, None where that is unknown.
    """
    mask = read_image(path)
    if mask.mode not in ("P", "L", "1"):
        raise FileError("not a label map", f"{path} is an {mask.mode} image, not a map of class ids")
    if size is not None and mask.size != size:
        have, want = f"{mask.size[0]}x{mask.size[1]}", f"{size[0]}x{size[1]}"
        raise FileError("wrong size", f"{path} is {have} but its image is {want}")
    values = np.asarray(mask).astype(np.uint8)
    strange = table.unknown(values)
    if strange:
        raise FileError("unknown id", f"{path} has id {strange[0]}, but ids go {table.ranges}")
    return table.decode(values)


def read_label(path: Path, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Class ids of a mask that holds ``0..classes - 1`` and 255 = ignored. Raises FileError."""
    return read_ids(path, size, LabelTable.consecutive(classes))
