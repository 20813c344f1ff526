"""ReasonSeg (LISA, arXiv 2308.00692): questions whose answer is an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import TypeAdapter, ValidationError

from segscale.registry import DATASETS

from .files import FileError, read_image
from .folder import Counts, Entry, require
from .labels import IGNORE_LABEL
from .prepare import Derivation, Mask
from .referring import TARGET_ID, Referred, ReferringFolder

MASKS = "masks"
UNPACK = "unpack ReasonSeg's train, val and test and name their folder with --data-root"
SKIPPED, IGNORED = "flag", "ignore"
ENCODINGS = ("utf-8-sig", "cp1252")
"""Of the official files, which are not all of one."""


@dataclass(frozen=True)
class Shape:
    """A polygon of an annotation."""

    label: str
    points: tuple[tuple[float, float], ...]

    @property
    def area(self) -> float:
        """Enclosed pixels (the shoelace formula)."""
        x, y = np.array(self.points).reshape(-1, 2).T
        return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)

    @property
    def value(self) -> int:
        """Of its pixels in the mask."""
        return IGNORE_LABEL if IGNORED in self.label.lower() else TARGET_ID


@dataclass(frozen=True)
class Annotation:
    """One official json: expressions that all mean the same, and polygons."""

    text: tuple[str, ...]
    shapes: tuple[Shape, ...]


_ANNOTATION = TypeAdapter(Annotation)


@dataclass(frozen=True)
class Polygons(Mask):
    """A mask from an annotation's polygons, the largest first, so that small ones stay."""

    image: Path

    def label(self) -> NDArray[np.uint8]:
        canvas = Image.new("L", read_image(self.image).size)
        draw = ImageDraw.Draw(canvas)
        shapes = [shape for shape in read_annotation(self.source).shapes if shape.label.lower() != SKIPPED]
        for shape in sorted(shapes, key=lambda shape: -shape.area):
            if len(shape.points) > 1:
                draw.polygon(shape.points, fill=shape.value, outline=shape.value)
        return np.array(canvas)


@DATASETS.register_module()
class ReasonSeg(ReferringFolder):
    """The folder ``data_root`` holds ``train``, ``val`` and ``test`` with a jpg and a json each."""

    official_counts: ClassVar[Counts] = {"train": (239,), "val": (200,), "test": (779,)}

    def referred(self, split: str) -> Iterator[Referred]:
        """The first expression of every image."""
        for source in sorted(self.require(split, UNPACK).glob("*.json")):
            entry = Entry(source.stem, source.with_suffix(".jpg"), _mask(self.root, source))
            yield Referred(entry, read_annotation(source).text[0])

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """A mask of every annotation."""
        require(root, "val", UNPACK)
        for split in cls.official_counts:
            for source in sorted((root / split).glob("*.json")):
                yield Polygons(source, _mask(root, source), source.with_suffix(".jpg"))


def _mask(root: Path, source: Path) -> Path:
    return root / MASKS / source.parent.name / f"{source.stem}.png"


def read_annotation(path: Path) -> Annotation:
    """Read an official json. Raises FileError for one that is damaged or names no expression."""
    try:
        annotation = _ANNOTATION.validate_python(json.loads(_decoded(path.read_bytes())))
    except (ValueError, ValidationError, OSError) as error:
        raise FileError("damaged", f"{path} is damaged ({type(error).__name__})") from error
    if not annotation.text:
        raise FileError("damaged", f"{path} is damaged (it holds no expression)")
    return annotation


def _decoded(content: bytes) -> str:
    first, second = ENCODINGS
    try:
        return content.decode(first)
    except UnicodeDecodeError:
        return content.decode(second)
