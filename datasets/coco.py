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
from .folder import DOCUMENTATION, Counts, Entry, FolderDataset, Layout, MaskFolder, need, prepare_command
from .labels import IGNORE_LABEL, LabelTable, colour_map
from .prepare import Derivation, Panoptic, Relabelled

FOLDERS = {"train": "train2017", "val": "val2017"}
UNPACK = "unpack the COCO 2017 images and name their folder with --data-root"
STUFFTHINGMAPS = "stuffthingmaps"


class CocoFolder(FolderDataset):
    """data_root: the folder that holds ``images`` and the prepared masks. Masks hold canonical ids."""

    official: ClassVar[Counts] = {"train": (118287,), "val": (5000,)}
    masks: str
    names: tuple[str, ...]

    def _layout(self, split: str) -> Layout:
        images, masks = self.root / "images" / FOLDERS[split], self.root / self.masks / FOLDERS[split]
        need(images, UNPACK)
        prepare = prepare_command(self.name, self.root)
        need(masks, f"make it with: {prepare}")
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


@DATASETS.register_module()
class CocoObject(CocoFolder):
    """80 things. labels: what the masks were made from. Pixels without a thing are background."""

    names = tuple(OBJECT_CATEGORIES.values())

    def __init__(self, labels: Literal["panoptic", "stuffthingmaps"] = "panoptic", **arguments: Any) -> None:
        self.labels = labels
        self.masks = object_folder(labels)
        super().__init__(**arguments)

    @property
    def choices(self) -> dict[str, Any]:
        return super().choices | {"labels": self.labels}

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Masks from every official source that is there: panoptic json with png, and stuffthingmaps."""
        if not any((root / "annotations").glob("panoptic_*2017.json")):
            need(root / STUFFTHINGMAPS, "unpack COCO's panoptic annotations, or COCO-Stuff's stuffthingmaps")
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
        need(root / STUFFTHINGMAPS, "unpack COCO-Stuff's stuffthingmaps")
        return _relabelled(root, cls.masks, stuff_27_table())


def object_folder(labels: str) -> str:
    return f"coco-object-{labels}"


def object_table() -> LabelTable:
    """From the values of stuffthingmaps, which are category ids less one."""
    things = {category - 1: index + 1 for index, category in enumerate(OBJECT_CATEGORIES)}
    return LabelTable.of(dict.fromkeys((*range(182), IGNORE_LABEL), 0) | things)


def stuff_27_table() -> LabelTable:
    """From the values of stuffthingmaps; 255 is unlabelled."""
    fine = {value: index + 1 for index, values in enumerate(STUFF_27.values()) for value in values}
    return LabelTable.of(fine | {IGNORE_LABEL: 0})


def _relabelled(root: Path, target: str, table: LabelTable) -> Iterator[Relabelled]:
    for folder in FOLDERS.values():
        for source in sorted((root / STUFFTHINGMAPS / folder).glob("*.png")):
            yield Relabelled(source, root / target / folder / source.name, table)


def _panoptic(root: Path, folder: str) -> Iterator[Panoptic]:
    path = root / "annotations" / f"panoptic_{folder}.json"
    masks = path.with_suffix("")
    if not path.exists():
        return
    need(masks, f"unpack {masks.name}.zip")
    classes = {category: index + 1 for index, category in enumerate(OBJECT_CATEGORIES)}
    for annotation in sorted(_annotations(path), key=lambda one: one["file_name"]):
        # Stuff is background, whatever its category.
        segments = tuple((one["id"], classes.get(one["category_id"], 0)) for one in annotation["segments_info"])
        name = annotation["file_name"]
        yield Panoptic(masks / name, root / object_folder("panoptic") / folder / name, segments)


def _annotations(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text())["annotations"]
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is damaged ({error!r})", DOCUMENTATION) from error
