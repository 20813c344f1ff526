"""Reads images and label maps from disk, or says in one line what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segscale.errors import UserError

from .dataset import IGNORE_LABEL

REPLACE = "replace the file from the original dataset"


def read_image(path: Path) -> Image.Image:
    """The decoded image, in its own mode."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}", REPLACE) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error})", REPLACE) from error


def read_label(path: Path, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Class ids of a one-channel mask, palette indices undecoded.

    size: width and height the mask must have. Ids outside ``0..classes - 1`` other than 255 are an error.
    """
    mask = read_image(path)
    if len(mask.getbands()) != 1:
        raise UserError(f"{path} is an {mask.mode} image, not a map of class ids", REPLACE)
    if mask.size != size:
        raise UserError(f"{path} is {mask.size[0]}x{mask.size[1]} but its image is {size[0]}x{size[1]}", REPLACE)
    label = np.asarray(mask)
    strange = np.unique(label[(label >= classes) & (label != IGNORE_LABEL)])
    if len(strange):
        raise UserError(f"{path} has id {strange[0]}, but ids go from 0 to {classes - 1} (255 = ignored)", REPLACE)
    return label.astype(np.uint8)
