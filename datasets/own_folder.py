"""One's own pictures: a folder with ``images/``, ``masks/`` and the names of the classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from segscale.errors import UserError
from segscale.registry import DATASETS

from .class_list import ClassList, read_class_list
from .dataset import CALIBRATION, Sample
from .files import REPLACE, FileError
from .folder import DOCUMENTATION, Entry, FolderDataset, Layout
from .labels import IGNORE_LABEL, Colour, LabelTable
from .prompts.caption_file import IMAGE_SUFFIXES

MASK_ENDINGS = (".png", "_labels.png", ".bmp", ".tif", ".tiff")
"""After the name of an image: lossless formats, and the masks of ``segscale predict``."""
CUTOUT = re.compile(r"_cutout\d+_\w*\.png$")
"""Ends the names of other files of ``segscale predict`` beside its masks."""
NEEDED = "name a folder that holds images/, masks/ and classes.txt with --data-root"


@DATASETS.register_module()
class OwnFolder(FolderDataset):
    """The folder ``data_root`` holds ``images``, ``masks`` and ``classes.txt`` or ``classes.csv``.

    A picture and its mask have the same name but for the ending. Pictures are read as viewers show them.
    """

    as_shown: ClassVar[bool] = True

    def __init__(self, *, split: str | None = None, data_root: str | None = None, **arguments: Any) -> None:
        """Find the pictures; further arguments are those of FolderDataset.

        Args:
            split: What tables call this set of pictures, by default the name of the folder.
            data_root: The folder.
            arguments: Of FolderDataset.
        """
        own = Path(data_root or f"data/{arguments['name']}").expanduser().resolve().name
        if own == CALIBRATION and split in (None, CALIBRATION):
            problem = f"a folder called {CALIBRATION} would be taken for images that a threshold was chosen on"
            raise UserError(problem, "call it otherwise: --split NAME")
        self.splits = (own if split in (None, CALIBRATION) else split,)
        super().__init__(split=split or own, data_root=data_root, **arguments)

    def layout(self, split: str) -> Layout:
        images = self.require("images", NEEDED)
        self._list = read_class_list(self.root)
        entries = [_entry(path, images, self.root / "masks") for path in pictures_in(images)]
        return Layout(self._list.names, self._list.palette, _table(self._list), entries)

    @property
    def identity_options(self) -> dict[str, object]:
        colours = self._list.palette if self._list.is_coloured else None
        return super().identity_options | {"classes": self._list.names, "colours": colours}

    @property
    def masks_without_image(self) -> tuple[Entry, ...]:
        masks = self.root / "masks"
        known = {place for entry in self.entries for place in _places(entry.id, masks)}
        return tuple(
            Entry(_id(path, masks), self.root / "images" / path.relative_to(masks), path)
            for path in _visible(masks)
            if path.name.endswith(MASK_ENDINGS) and path not in known and not CUTOUT.search(path.name)
        )

    def __getitem__(self, index: int) -> Sample:
        try:
            return super().__getitem__(index)
        except FileError as error:
            if error.hint != REPLACE:
                raise
            missing = error.kind == "missing file"
            hint = "draw it, or leave its image out: --skip-bad" if missing else f"correct it; {DOCUMENTATION}"
            raise FileError(error.kind, error.problem, hint) from error


def pictures_in(folder: Path) -> Iterator[Path]:
    """Image files of a folder and those in it, sorted, without hidden ones."""
    return (path for path in _visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES)


def _visible(folder: Path) -> list[Path]:
    """Files below a folder, sorted, without hidden ones and what lies in a hidden one; links are followed."""
    found: list[Path] = []
    entered: set[Path] = set()
    roots = [folder]
    # Links come after all that lies there itself: one to a folder above would never end, one to a folder beside would
    # show its pictures twice.
    for root in roots:
        for above, names, files in os.walk(root):
            if (real := Path(above).resolve()) in entered:
                names.clear()
                continue
            entered.add(real)
            names[:] = sorted(name for name in names if name[0] != ".")
            found += [Path(above) / name for name in files if name[0] != "."]
            roots += [link for link in (Path(above) / name for name in names) if link.is_symlink()]
    return sorted(found)


def _entry(image: Path, images: Path, masks: Path) -> Entry:
    id = _id(image, images)
    places = _places(id, masks)
    return Entry(id, image, next((place for place in places if place.exists()), places[0]))


def _places(id: str, masks: Path) -> list[Path]:
    """Where the mask of a picture may be; the first that is there counts."""
    return [masks / f"{id}{ending}" for ending in MASK_ENDINGS]


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _table(classes: ClassList) -> LabelTable:
    table = LabelTable.consecutive(len(classes.names))
    if not classes.is_coloured:
        return table
    colours: dict[Colour, int] = {colour: value for value, colour in enumerate(classes.palette)}
    return table.coloured(colours if classes.ignored is None else colours | {classes.ignored: IGNORE_LABEL})
