"""Reads images, label maps and lists from disk, or says in one line what is wrong with a file."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from segscale.errors import UserError

from .labels import Colour, LabelTable

REPLACE = "replace the file from the original dataset"
DIGEST = "digest"
"""In ``Image.info``: the digest of the file that an image was read from."""

COLOURED = ("RGB", "RGBA", "P")
"""Modes of masks that are read by their colours where those are known."""
WITHOUT_RANGE = ("I", "F")
"""Modes of pictures with 32-bit values."""
DAMAGED = (OSError, SyntaxError, ValueError, struct.error)
"""What Pillow raises for a damaged file."""

Damage = Literal[
    "missing file",
    "wrong case",
    "empty file",
    "not regular",
    "damaged",
    "too large",
    "unknown range",
    "not a label map",
    "wrong size",
    "unknown id",
    "duplicate id",
]


class FileError(UserError):
    """One unusable file; names with control characters are shown with escapes, which no terminal obeys."""

    def __init__(self, kind: Damage, problem: str, hint: str = REPLACE) -> None:
        super().__init__(_escaped(problem), _escaped(hint))
        self.kind: Damage = kind


def _escaped(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def digest(*contents: bytes) -> str:
    """64 bits of SHA-256, which processors have instructions for; it tells whether contents changed."""
    algorithm = hashlib.sha256()
    for content in contents:
        algorithm.update(content)
    return algorithm.hexdigest()[:16]


def read_image(path: Path, as_shown: bool = False) -> Image.Image:
    """The decoded image in its own mode, with the file's digest; 16-bit grey values are scaled to 8 bits.

    Args:
        path: The image.
        as_shown: As viewers do, in RGB and turned as EXIF says. Masks of published datasets match the stored pixels.

    Raises:
        FileError: The file is missing or unusable, or has 32-bit integers or floats, whose range no file states.
    """
    with _damage_named(path):
        image = _decoded(path)
        if as_shown:
            return in_rgb(ImageOps.exif_transpose(image), str(path))
        return in_8_bits(image, str(path))


def in_rgb(image: Image.Image, name: str) -> Image.Image:
    """The image in RGB with 8 bits, over white where it is transparent. Raises FileError as ``in_8_bits`` does."""
    image = in_8_bits(image, name)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    flat = image.convert("RGB")
    if image.mode == "RGBA":
        flat.paste("white", mask=ImageChops.invert(image.getchannel("A")))
    return flat


def in_8_bits(image: Image.Image, name: str) -> Image.Image:
    """The image, 16-bit grey values scaled. Raises FileError, which names it, for 32-bit integers or floats."""
    if image.mode in WITHOUT_RANGE:
        hint = "save it with 8 or 16 bits per value"
        raise FileError("unknown range", f"{name} has 32-bit values, whose range is unknown", hint)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        scaled = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        scaled.info |= image.info
        return scaled
    return image


def _decoded(path: Path) -> Image.Image:
    check_regular(path)
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    image.info[DIGEST] = digest(content)
    return image


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what reading an image raises into a FileError."""
    try:
        yield
    except FileNotFoundError as error:
        raise missing_file(path, names_in(path.parent)) from error
    except Image.DecompressionBombError as error:
        raise FileError("too large", f"{path} is too large ({error})", "make it smaller") from error
    except UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise FileError("empty file", f"{path} is damaged (it is empty)") from error
        raise FileError("damaged", f"{path} is damaged (it is in no format that Pillow knows)") from error
    except DAMAGED as error:
        raise FileError("damaged", f"{path} is damaged ({error})") from error


def file_digest(path: Path) -> str:
    """The digest that an image read from ``path`` has, without decoding it. Raises FileError for no file."""
    try:
        check_regular(path)
        return digest(path.read_bytes())
    except OSError as error:
        raise FileError("missing file", f"{path} cannot be read ({error.strerror})") from error


def check_regular(path: Path) -> None:
    """Raises FileError for a folder, a pipe or a device, which would end or block a read."""
    if path.exists() and not path.is_file():
        raise FileError("not regular", f"{path} is not a regular file")


def names_in(folder: Path) -> frozenset[str]:
    """Names in a folder; none where there is no folder."""
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def missing_file(path: Path, names: frozenset[str]) -> FileError:
    """The error for a path whose folder holds ``names`` and not its own."""
    similar = sorted(name for name in names if name.lower() == path.name.lower())
    if similar:
        return FileError("wrong case", f"there is no {path}, only {similar[0]}", f"rename it to {path.name}")
    return FileError("missing file", f"there is no {path}")


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask that was read."""

    ids: NDArray[np.uint8]
    """Class ids, ``(height, width)``."""
    digest: str
    """Of the file."""


def read_mask(path: Path, size: tuple[int, int] | None, table: LabelTable) -> Mask:
    """Read a mask through ``table``; palette indices stay as they are where the table knows no colours.

    Args:
        path: The mask.
        size: Width and height that it must have, None where that is unknown.
        table: Which class every pixel value is.

    Raises:
        FileError: The mask is missing or unusable.
    """
    with _damage_named(path):
        mask = _decoded(path)
    if size is not None and mask.size != size:
        sizes = f"{mask.size[0]}x{mask.size[1]} but its image is {size[0]}x{size[1]}"
        raise FileError("wrong size", f"{path} is {sizes}")
    values = _values(path, mask, table.colours)
    unknown = table.unknown(values)
    if unknown:
        raise FileError("unknown id", f"{path} has id {unknown[0]}, but ids go {table.ranges}")
    return Mask(table.decode(values), mask.info[DIGEST])


def _values(path: Path, mask: Image.Image, colours: Mapping[Colour, int]) -> NDArray[np.uint8]:
    if colours and mask.mode in COLOURED:
        return _values_of_colours(path, mask, colours)
    if mask.mode not in ("P", "L", "1"):
        raise FileError("not a label map", f"{path} is an {mask.mode} image, not a map of class ids")
    return np.asarray(mask).astype(np.uint8)


def _values_of_colours(path: Path, mask: Image.Image, colours: Mapping[Colour, int]) -> NDArray[np.uint8]:
    red, green, blue = np.moveaxis(np.asarray(mask.convert("RGB")).astype(np.int32), -1, 0)
    packed = red << 16 | green << 8 | blue
    values = np.full(1 << 24, -1, np.int16)
    for (r, g, b), value in colours.items():
        values[r << 16 | g << 8 | b] = value
    found = values[packed]
    if (found < 0).any():
        odd = int(packed[found < 0][0])
        raise FileError("unknown id", f"{path} has the colour #{odd:06x}, which is that of no class")
    return found.astype(np.uint8)


def read_ids(path: Path, size: tuple[int, int] | None, table: LabelTable) -> NDArray[np.uint8]:
    """Class ids of a mask, as of ``read_mask``. Raises FileError."""
    return read_mask(path, size, table).ids


def read_label(path: Path, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Class ids of a mask that holds ``0..classes - 1`` and 255 = ignored. Raises FileError."""
    return read_ids(path, size, LabelTable.consecutive(classes))


def read_list(path: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 text file, without blank ones and without a byte-order mark.

    Raises:
        FileError: The file is missing, is no text, or lists nothing.
    """
    try:
        check_regular(path)
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise missing_file(path, names_in(path.parent)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError("damaged", f"{path} is damaged ({error})") from error
    if "\0" in text:
        raise FileError("damaged", f"{path} is damaged (it is no text)")
    lines = tuple(filter(None, (line.strip() for line in text.split("\n"))))
    if not lines:
        raise FileError("empty file", f"{path} lists no image")
    return lines
