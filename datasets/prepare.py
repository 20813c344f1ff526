"""Files made from a dataset's official annotations. Originals are only read; a file appears whole or not at all."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.files import replaced_bytes

from .files import FileError, check_regular, read_ids, read_image
from .labels import LabelTable


@dataclass(frozen=True)
class Derivation(ABC):
    """One file to make."""

    source: Path
    """The file that it is made from."""
    target: Path
    """The place where it belongs."""

    @abstractmethod
    def write(self, file: BinaryIO) -> None:
        """Write the content. Raises FileError for an unusable source."""

    def make(self) -> None:
        """Write the target, whole or not at all."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with replaced_bytes(self.target) as file:
            self.write(file)


@dataclass(frozen=True)
class ListFile(Derivation):
    """The images of a split, one id per line."""

    ids: tuple[str, ...]

    def write(self, file: BinaryIO) -> None:
        file.write("".join(f"{id}\n" for id in self.ids).encode())


@dataclass(frozen=True)
class Mask(Derivation):
    """A PNG of class ids."""

    @abstractmethod
    def label(self) -> NDArray[np.uint8]:
        """Class ids, ``(height, width)``. Raises FileError for an unusable source."""

    def write(self, file: BinaryIO) -> None:
        Image.fromarray(self.label()).save(file, format="PNG")


@dataclass(frozen=True)
class Relabelled(Mask):
    """A mask with other ids."""

    table: LabelTable

    def label(self) -> NDArray[np.uint8]:
        return read_ids(self.source, None, self.table)


@dataclass(frozen=True)
class Panoptic(Mask):
    """A mask from COCO's panoptic PNG, whose colour is a segment's id (R + 256 G + 65536 B)."""

    segments: tuple[tuple[int, int], ...]
    """The id and class of every segment. Id 0 is no segment and becomes class 0."""

    def label(self) -> NDArray[np.uint8]:
        image = read_image(self.source)
        if image.mode != "RGB":
            raise FileError("not a label map", f"{self.source} is an {image.mode} image, not a panoptic map")
        values = np.asarray(image).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        known = sorted({(0, 0), *self.segments})
        ids = np.array([id for id, _ in known], np.uint32)
        classes = np.array([label for _, label in known], np.uint8)
        place = np.searchsorted(ids, values).clip(max=len(ids) - 1)
        unknown = values[ids[place] != values]
        if len(unknown):
            raise FileError("unknown id", f"{self.source} has segment {unknown[0]}, which its json does not list")
        return classes[place]


@dataclass(frozen=True)
class RunLengths(Mask):
    """A mask from segments in COCO's run-length code, drawn in order over class 0."""

    size: tuple[int, int]
    """Height and width."""
    segments: tuple[tuple[str, int], ...]
    """The code and class of every segment."""

    def label(self) -> NDArray[np.uint8]:
        height, width = self.size
        label = np.zeros(height * width, np.uint8)
        for code, value in self.segments:
            label[inside(code, height * width, self.source)] = value
        return np.ascontiguousarray(label.reshape(width, height).T)


@dataclass(frozen=True)
class MatFile(Mask):
    """A mask from the map ``LabelMap`` of a MATLAB file."""

    table: NDArray[np.uint8]
    """The class of every value."""

    def label(self) -> NDArray[np.uint8]:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            check_regular(self.source)
            values = np.asarray(loadmat(self.source)["LabelMap"])
        except FileNotFoundError as error:
            raise FileError("missing file", f"there is no {self.source}") from error
        except (MatReadError, zlib.error, ValueError, LookupError, TypeError, OSError, NotImplementedError) as error:
            raise FileError("damaged", f"{self.source} is damaged ({error!r})") from error
        if values.dtype.kind not in "uif" or values.ndim != 2 or not values.size:
            raise FileError("not a label map", f"{self.source} holds {values.dtype} {values.shape}, not a map of ids")
        unknown = values[~np.isin(values, np.arange(len(self.table)))]
        if len(unknown):
            problem = f"{self.source} has id {unknown[0]}, but ids go from 0 to {len(self.table) - 1}"
            raise FileError("unknown id", problem)
        return self.table[values.astype(np.int64)]


def inside(code: str, pixels: int, source: Path) -> NDArray[np.bool_]:
    """The pixels of a segment in COCO's compressed run lengths, bool ``(pixels,)`` in column order.

    Every character holds five bits of a number, lowest first, and whether more follow; numbers are signed, and from
    the fourth on they are differences to the number two before.
    """
    lengths = _run_lengths(np.frombuffer(code.encode(), np.uint8).astype(np.int64) - 48)
    if (lengths < 0).any() or lengths.sum() != pixels:
        raise FileError("damaged", f"{source} is damaged (a segment has {lengths.sum()} of {pixels} pixels)")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _run_lengths(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    more = (codes & 0x20) != 0
    if not len(codes) or more[-1]:
        return np.array([-1], np.int64)
    ends = np.flatnonzero(~more)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    place = np.arange(len(codes)) - np.repeat(starts, digits)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, 1 << (5 * digits), 0)
    # Differences start at the fourth number: undo them apart for even and odd places.
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers
