"""Kept masks as small pictures on the page: image, label, and what every run predicts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...runs.masks import label_path, mask_path, picture_path, pictured_images
from .data import PageRuns

MASKS = 500
"""On one page at most; fewer images are shown where there are many runs."""
DataUri = str


@dataclass(frozen=True)
class GalleryImage:
    """One image, its label and its masks."""

    name: str
    task: int
    """Place of the task."""
    picture: DataUri
    label: DataUri
    masks: dict[int, DataUri]
    """By the place of a run among all runs of the page."""


@dataclass(frozen=True)
class Gallery:
    """Images of all tasks that have masks."""

    images: tuple[GalleryImage, ...]
    colours: dict[int, tuple[str, ...]]
    """By the place of a task, the colour of each of its classes."""
    kept: int
    """Images with masks, of which a large page shows a part."""


def page_gallery(page: PageRuns, folders: Mapping[str, Path]) -> Gallery:
    """The gallery of runs whose ``folders`` hold masks; empty where none does."""
    names = [pictured_images(folders[run.id]) for run in page.runs]
    most = max(1, MASKS // max(1, sum(map(bool, names))))
    images: list[GalleryImage] = []
    colours: dict[int, tuple[str, ...]] = {}
    kept = 0
    for place, task in enumerate(page.tasks):
        members = [run for run, each in enumerate(page.runs) if each.task == place and names[run]]
        stored = sorted({name for run in members for name in names[run]})
        kept += len(stored)
        for name in stored[:most]:
            places = [run for run in members if name in names[run]]
            images.append(_image(name, place, {run: folders[page.runs[run].id] for run in places}))
        if members:
            colours[place] = _colours(
                _first_label(folders[page.runs[members[0]].id], names[members[0]]), len(task.classes)
            )
    return Gallery(tuple(images), colours, kept)


def _first_label(folder: Path, names: Iterable[str]) -> Path:
    return label_path(folder, min(names))


def _image(name: str, task: int, folders: Mapping[int, Path]) -> GalleryImage:
    first = next(iter(folders.values()))
    picture = picture_path(first, name)
    with Image.open(picture) as opened:
        size = opened.size
    masks = {run: _label_map(mask_path(folder, name), size) for run, folder in folders.items()}
    content = data_uri("image/jpeg", picture.read_bytes())
    return GalleryImage(name, task, content, _label_map(label_path(first, name), size), masks)


def _label_map(path: Path, size: tuple[int, int]) -> DataUri:
    """The label map at the size of the picture, with the colours that are in it."""
    with Image.open(path) as opened:
        ids, palette = np.asarray(opened.resize(size, Image.Resampling.NEAREST)), opened.getpalette() or []
    used, places = np.unique(ids, return_inverse=True)
    image = Image.fromarray(places.reshape(ids.shape).astype(np.uint8))
    image.putpalette([part for id in used for part in palette[3 * id : 3 * id + 3]])
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())


def _colours(path: Path, classes: int) -> tuple[str, ...]:
    with Image.open(path) as opened:
        parts = opened.getpalette() or []
    rgb: Sequence[Sequence[int]] = [parts[3 * id : 3 * id + 3] for id in range(classes)]
    return tuple("#" + bytes(colour).hex() for colour in rgb)


def data_uri(kind: str, content: bytes) -> DataUri:
    """A file of this media type as the source of an image."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
