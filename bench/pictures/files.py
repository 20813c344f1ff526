"""Writes the files of a picture's masks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from segscale.errors import UserError
from segscale.files import explained_writes, replaced, replaced_bytes
from segscale.places import created

from .kinds import Kind

if TYPE_CHECKING:
    from .segmentation import Segmentation

DEFAULT_KINDS: tuple[Kind, ...] = ("overlay", "labels", "heat")
PHOTOGRAPH_QUALITY = 90
"""Of the JPEG files: what shows the picture itself is many times larger as PNG."""


def write_segmentation(
    result: Segmentation, folder: Path, stem: str, kinds: Sequence[Kind], source: str | None = None
) -> list[Path]:
    """Write files of these kinds and a JSON of names, areas and the picture's source; returns their paths.

    Raises:
        UserError: The folder cannot be written.
    """
    written: list[Path] = []
    with explained_writes(folder, "--output"):
        for name, image in _images(result, kinds):
            written.append(folder / f"{stem}_{name}")
            _write(written[-1], image)
        written.append(summary_path(folder, stem))
        with replaced(written[-1]) as file:
            file.write(json.dumps(_summary(result, source), indent=2) + "\n")
    return written


def write_example(path: Path, image: Image.Image) -> None:
    """Write a generated picture. Raises UserError where another file has its name, which is never replaced."""
    content = io.BytesIO()
    image.save(content, "PNG")
    with explained_writes(path.parent, "--output"):
        if not created(path, content.getvalue()) and path.read_bytes() != content.getvalue():
            raise UserError(f"{path} is not the example", "choose another --output")


def summary_path(folder: Path, stem: str) -> Path:
    """Where the JSON of a picture is written."""
    return folder / f"{stem}.json"


def _images(result: Segmentation, kinds: Sequence[Kind]) -> Iterator[tuple[str, Image.Image]]:
    """One at a time, as each is as large as the picture."""
    if "overlay" in kinds:
        yield "overlay.jpg", result.overlay(legend=True)
    if "labels" in kinds:
        yield "labels.png", result.indexed()
    for number, name in enumerate(result.names, 1):
        if "heat" in kinds:
            yield f"heat{number}_{_file_name(name)}.jpg", result.heat(name)
        if "cutouts" in kinds:
            yield f"cutout{number}_{_file_name(name)}.png", result.cutout(name)


def _write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_bytes(path) as file:
        if path.suffix == ".jpg":
            image.save(file, "JPEG", quality=PHOTOGRAPH_QUALITY)
        else:
            image.save(file, "PNG")


def _summary(result: Segmentation, source: str | None) -> dict[str, object]:
    classes = [
        {"id": id, "name": name, "pixels": pixels, "colour": result.colours[id]}
        for id, (name, pixels) in enumerate(result.areas.items())
    ]
    return {"image": source, "size": result.image.size, "classes": classes}


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
