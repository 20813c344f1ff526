"""Writes the files of a picture's masks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from segscale.errors import UserError
from segscale.files import explained_writes, replaced, replaced_bytes
from segscale.places import created

from ...datasets.files import digest, file_digest
from .kinds import Kind

if TYPE_CHECKING:
    from .segmentation import Segmentation

LABELS = "labels"
"""In the JSON: the digest of the labels that were written last."""
DEFAULT_KINDS: tuple[Kind, ...] = ("overlay", "labels", "heat")
LONGEST_NAME, LONGEST_CLASS = 229, 60
"""Bytes of a file's name, without what a temporary name adds, and of a class in it, whose number tells it apart."""
PHOTOGRAPH_QUALITY = 90
"""Of the JPEG files: what shows the picture itself is many times larger as PNG."""


def write_segmentation(
    result: Segmentation, folder: Path, stem: str, kinds: Sequence[Kind], source: str | None = None
) -> list[Path]:
    """Write files of these kinds and a JSON of names, areas and the picture's source; returns their paths.

    Raises:
        UserError: The folder cannot be written.
    """
    written = [summary_path(folder, stem)]
    labels = _png(result.indexed()) if "labels" in kinds else None
    record = _record(written[0]).get(LABELS) if labels is None else digest(labels)
    with explained_writes(folder, "--output"):
        written[0].parent.mkdir(parents=True, exist_ok=True)
        with replaced(written[0]) as file:
            file.write(json.dumps(_summary(result, source) | {LABELS: record}, indent=2) + "\n")
        # After their record: labels without one pass for the user's own.
        if labels is not None:
            written.append(_labels_path(folder, stem))
            with replaced_bytes(written[-1]) as file:
                file.write(labels)
        for name, image in _images(result, kinds):
            written.append(folder / f"{stem}_{name}")
            _write(written[-1], image)
    return written


def refuse_long_name(stem: str, kinds: Sequence[Kind], classes: Sequence[str]) -> None:
    """Raises UserError where files of these kinds could not be called after a picture."""
    name = Path(stem).name
    of_class = (
        f"_{kind}{number}_{_file_name(each)}.png"
        for kind in {"heat", "cutouts"}.intersection(kinds)
        for number, each in enumerate(classes, 1)
    )
    if max(len(f"{name}{ending}".encode()) for ending in ("_overlay.jpg", *of_class)) > LONGEST_NAME:
        raise UserError(f"the name {name} leaves no room for those of its files", "rename the picture")


def refuse_others(folder: Path, stem: str, kinds: Sequence[Kind], source: str | None) -> None:
    """Raises UserError where files of another picture, or labels that a user made or changed, would be replaced."""
    summary, labels = summary_path(folder, stem), _labels_path(folder, stem)
    hint = "choose another --output, or give --overwrite"
    if summary.exists() and _record(summary).get("image", "") != source:
        raise UserError(f"{summary} is not of this picture", hint)
    if "labels" in kinds and labels.exists() and file_digest(labels) != _record(summary).get(LABELS):
        raise UserError(f"{labels} is not as segscale predict wrote it", hint)


def write_example(path: Path, image: Image.Image) -> None:
    """Write a generated picture. Raises UserError where another file has its name, which is never replaced."""
    content = _png(image)
    with explained_writes(path.parent, "--output"):
        if not created(path, content) and path.read_bytes() != content:
            raise UserError(f"{path} is not the example", "choose another --output")


def summary_path(folder: Path, stem: str) -> Path:
    """Where the JSON of a picture is written."""
    return folder / f"{stem}.json"


def _labels_path(folder: Path, stem: str) -> Path:
    return folder / f"{stem}_labels.png"


def _record(summary: Path) -> Mapping[str, object]:
    """What the JSON of a picture says; nothing where there is none."""
    try:
        content = json.loads(summary.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _images(result: Segmentation, kinds: Sequence[Kind]) -> Iterator[tuple[str, Image.Image]]:
    """All but the labels, one at a time, as each is as large as the picture."""
    if "overlay" in kinds:
        yield "overlay.jpg", result.overlay(legend=True)
    for number, name in enumerate(result.names, 1):
        if "heat" in kinds:
            yield f"heat{number}_{_file_name(name)}.jpg", result.heat(name)
        if "cutouts" in kinds:
            yield f"cutout{number}_{_file_name(name)}.png", result.cutout(name)


def _write(path: Path, image: Image.Image) -> None:
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
    letters = "".join(letter if letter.isalnum() else "_" for letter in name)
    return letters.encode()[:LONGEST_CLASS].decode(errors="ignore")
