"""Pascal Context, 59 classes, read from ``VOCdevkit/VOC2010`` with the masks that ``data prepare`` makes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from segscale.errors import UserError
from segscale.registry import DATASETS

from .folder import (
    DOCUMENTATION,
    Counts,
    FolderDataset,
    Layout,
    mmseg_entries,
    mmseg_metainfo,
    need,
    need_list,
    prepare_command,
)
from .labels import IGNORE_LABEL, LabelTable
from .names import class_names
from .prepare import Derivation, ListFile, MatFile, RunLengths

UNPACK = "unpack VOC 2010 and name its folder with --data-root"
MASKS = "SegmentationClassContext"
LISTS = "ImageSets/SegmentationContext"
ANNOTATIONS = "trainval_merged.json"
SPLITS = ("train", "val")
SEGMENTATION_TRAIN = "segmentation-train"
VOC_TRAIN = "ImageSets/Segmentation/train.txt"

# Ids of the 59 classes among the 459 of the full annotation, in class order, which is alphabetical.
RAW_IDS = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308),
    *(324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
RAW_CLASSES = 459


def raw_table() -> NDArray[np.uint8]:
    """uint8 ``(460,)``: the class of every raw id, 0 for those beyond the 59."""
    table = np.zeros(RAW_CLASSES + 1, np.uint8)
    table[list(RAW_IDS)] = np.arange(1, len(RAW_IDS) + 1)
    return table


@DATASETS.register_module()
class PascalContext(FolderDataset):
    """data_root: the folder that holds ``VOCdevkit``. Masks hold 0 to 59, as mmsegmentation's.

    order: of the classes; ``goca`` is that of its published code. The split ``segmentation-train`` is the train list
    of VOC 2010's segmentation task, on which GoCA evaluates.
    """

    # trainval_merged.json and the .mat files differ by three images.
    official: ClassVar[Counts] = {"train": (4996, 4998), "val": (5104, 5105), SEGMENTATION_TRAIN: (964,)}
    below = "VOCdevkit/VOC2010"

    def __init__(self, order: Literal["alphabetical", "goca"] = "alphabetical", **arguments: Any) -> None:
        self.order = order
        super().__init__(**arguments)

    def _layout(self, split: str) -> Layout:
        need(self.root / "JPEGImages", UNPACK)
        prepare = prepare_command(self.name, self.root.parents[1])
        if split == SEGMENTATION_TRAIN:
            listed, hint = VOC_TRAIN, UNPACK
        else:
            listed, hint = f"{LISTS}/{split}.txt", f"make it with: {prepare}"
        need_list(self.root / listed, hint)
        need(self.root / MASKS, f"make it with: {prepare}")
        classes, palette = mmseg_metainfo("PascalContextDataset")
        entries = mmseg_entries("PascalContextDataset", self.root, "JPEGImages", MASKS, listed)
        wanted = self._order(classes)
        table = LabelTable.of({value: id for id, value in enumerate(wanted)} | {IGNORE_LABEL: IGNORE_LABEL})
        return Layout([classes[i] for i in wanted], [palette[i] for i in wanted], table, entries, prepare=prepare)

    def _order(self, classes: Sequence[str]) -> list[int]:
        """The value that each class id has in a mask; GoCA counts classes in an order of its own."""
        if self.order == "alphabetical":
            return [*range(len(classes))]
        return [0, *(classes.index(row[0]) for row in class_names("goca", "context") if row)]

    @property
    def choices(self) -> dict[str, Any]:
        return super().choices | ({} if self.order == "alphabetical" else {"order": self.order})

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Masks and lists, from trainval_merged.json where it is there, else from the .mat files."""
        folder = root / "VOCdevkit" / "VOC2010"
        if (folder / ANNOTATIONS).exists():
            yield from _from_json(folder)
        else:
            hint = f"unpack the official annotation: {ANNOTATIONS}, or the .mat files as trainval"
            need(folder / "trainval", hint)
            yield from _from_mat(folder)


def _from_json(folder: Path) -> Iterator[Derivation]:
    path, table = folder / ANNOTATIONS, raw_table()
    segments: dict[int, list[tuple[str, int]]] = defaultdict(list)
    masks: dict[str, list[RunLengths]] = {split: [] for split in SPLITS}
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        for one in data["annos_segmentation"]:
            segments[one["image_id"]].append((one["segmentation"]["counts"], int(table[one["category_id"]])))
        for one in sorted(data["images"], key=lambda one: one["file_name"]):
            target = folder / MASKS / f"{Path(one['file_name']).stem}.png"
            size, drawn = (one["height"], one["width"]), tuple(segments[one["image_id"]])
            if one["phase"] in masks:
                masks[one["phase"]].append(RunLengths(path, target, size, drawn))
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error!r})", DOCUMENTATION) from error
    for split, made in masks.items():
        yield from made
        yield _list_file(folder, split, path, made)


def _from_mat(folder: Path) -> Iterator[Derivation]:
    """The split is VOC 2010's own, restricted to the images that have a .mat file."""
    there = {path.stem: path for path in (folder / "trainval").glob("*.mat")}
    for split in SPLITS:
        source = folder / "ImageSets" / "Main" / f"{split}.txt"
        need_list(source, UNPACK)
        names = sorted(set(source.read_text().split()) & there.keys())
        made = [MatFile(there[name], folder / MASKS / f"{name}.png", raw_table()) for name in names]
        yield from made
        yield _list_file(folder, split, source, made)


def _list_file(folder: Path, split: str, source: Path, made: Sequence[Derivation]) -> ListFile:
    return ListFile(source, folder / LISTS / f"{split}.txt", tuple(one.target.stem for one in made))
