"""COCO 2017: COCO-Object (80 things and background) and COCO-Stuff-27, read from masks that ``data prepare`` makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from segscale.errors import UserError
from segscale.prompt import BACKGROUND
from segscale.registry import DATASETS

from .coco_classes import OBJECT_CATEGORIES, STUFF_27
from .folder import DOCUMENTATION, Counts, Entry, FolderDataset, Layout, MaskFolder, prepare_command, require
from .labels import IGNORE_LABEL, LabelTable, colour_map
from .prepare import Derivation, Panoptic, Relabelled

FOLDERS = {"train": "train2017", "val": "val2017"}
UNPACK = "unpack the COCO 2017 images and name their folder with --data-root"
STUFFTHINGMAPS = "stuffthingmaps"
# mmsegmentation's own converter writes masks of this ending beside the official ones.
CONVERTED = "_labelTrainIds"

# The official source of one folder's masks, by the kind of annotation, and its name.
SOURCES = {
    "panoptic": ("annotations/panoptic_{}.json", "COCO's panoptic annotations"),
    STUFFTHINGMAPS: (f"{STUFFTHINGMAPS}/{{}}", "COCO-Stuff's stuffthingmaps"),
}


class CocoFolder(FolderDataset):
    """The folder ``data_root`` holds ``images`` and the prepared masks, whose values are canonical ids."""

    official_counts: ClassVar[Counts] = {"train": (118287,), "val": (5000,)}
    masks: str
    """Name of the folder of prepared masks."""
    names: tuple[str, ...]
    """Names of the classes without background."""

    def layout(self, split: str) -> Layout:
        folder, prepare = FOLDERS[split], prepare_command(self.name, self.root)
        images = self.require(f"images/{folder}", UNPACK)
        masks = self.require(f"{self.masks}/{folder}", self.masks_hint(folder, prepare))
        entries = [Entry(image.stem, image, masks / f"{image.stem}.png") for image in sorted(images.glob("*.jpg"))]
        classes = (BACKGROUND, *self.names)
        return Layout(
            classes,
            colour_map(len(classes)),
            LabelTable.consecutive(len(classes)),
            entries,
            MaskFolder(images, masks, ".jpg", ".png"),
            prepare,
        )

    def masks_hint(self, folder: str, prepare: str) -> str:
        """How to get the masks of ``train2017`` or ``val2017``."""
        return f"make it with: {prepare}"


@DATASETS.register_module()
class CocoObject(CocoFolder):
    """COCO's 80 things. Pixels without a thing are background."""

    names = tuple(OBJECT_CATEGORIES.values())

    def __init__(self, *, labels: Literal["panoptic", "stuffthingmaps"] = "panoptic", **arguments: Any) -> None:
        """Read the masks made from ``labels``; further arguments are those of FolderDataset."""
        self.labels = labels
        self.masks = object_folder(labels)
        super().__init__(**arguments)

    @property
    def identity_options(self) -> dict[str, object]:
        return super().identity_options | {"labels": self.labels}

    def masks_hint(self, folder: str, prepare: str) -> str:
        source, source_name = SOURCES[self.labels]
        if (self.root / source.format(folder)).exists():
            return super().masks_hint(folder, prepare)
        hint = f"unpack {source_name}, then: {prepare}"
        other = next(labels for labels in SOURCES if labels != self.labels)
        if (self.root / object_folder(other) / folder).is_dir():
            hint += f'; or set labels = "{other}" in a config to read the masks that are there'
        return hint

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Masks from every official source that is there: panoptic json with png, and stuffthingmaps."""
        if not any((root / "annotations").glob("panoptic_*2017.json")):
            require(root, STUFFTHINGMAPS, "unpack COCO's panoptic annotations, or COCO-Stuff's stuffthingmaps")
        for folder in FOLDERS.values():
            yield from _panoptic(root, folder)
        yield from _relabelled(root, object_folder(STUFFTHINGMAPS), object_table())


@DATASETS.register_module()
class CocoStuff27(CocoFolder):
    """COCO-Stuff's 27 coarse classes. Unlabelled pixels are the canonical background."""

    names = tuple(STUFF_27)
    masks = "coco-stuff-27"

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Masks from stuffthingmaps."""
        require(root, STUFFTHINGMAPS, "unpack COCO-Stuff's stuffthingmaps")
        return _relabelled(root, cls.masks, stuff_27_table())


def object_folder(labels: str) -> str:
    """The folder of COCO-Object's masks made from ``labels``."""
    return f"coco-object-{labels}"


def object_table() -> LabelTable:
    """COCO-Object's class of every value of stuffthingmaps; values are category ids less one."""
    things = {category - 1: index + 1 for index, category in enumerate(OBJECT_CATEGORIES)}
    return LabelTable.of(dict.fromkeys((*range(182), IGNORE_LABEL), 0) | things)


def stuff_27_table() -> LabelTable:
    """The coarse class of every value of stuffthingmaps; 255 is unlabelled."""
    fine = {value: index + 1 for index, values in enumerate(STUFF_27.values()) for value in values}
    return LabelTable.of(fine | {IGNORE_LABEL: 0})


def _relabelled(root: Path, target: str, table: LabelTable) -> Iterator[Relabelled]:
    for folder in FOLDERS.values():
        for source in sorted((root / STUFFTHINGMAPS / folder).glob("*.png")):
            if not source.stem.endswith(CONVERTED):
                yield Relabelled(source, root / target / folder / source.name, table)


def _panoptic(root: Path, folder: str) -> Iterator[Panoptic]:
    path = root / SOURCES["panoptic"][0].format(folder)
    if not path.exists():
        return
    masks = require(root, f"annotations/{path.stem}", f"unpack {path.stem}.zip")
    target = root / object_folder("panoptic") / folder
    for name, segments in sorted(_segments(path).items()):
        yield Panoptic(masks / name, target / name, segments)


def _segments(path: Path) -> dict[str, tuple[tuple[int, int], ...]]:
    """The id and class of every segment, by file name; stuff is background, whatever its category."""
    classes = {category: index + 1 for index, category in enumerate(OBJECT_CATEGORIES)}
    try:
        return {
            image["file_name"]: tuple(
                (segment["id"], classes.get(segment["category_id"], 0)) for segment in image["segments_info"]
            )
            for image in json.loads(path.read_text())["annotations"]
        }
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error!r})", DOCUMENTATION) from error
