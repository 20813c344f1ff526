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

from .files import read_list
from .folder import (
    DOCUMENTATION,
    Counts,
    FolderDataset,
    Layout,
    mmseg_entries,
    mmseg_metainfo,
    prepare_command,
    require,
)
from .labels import IGNORE_LABEL, LabelTable
from .names import class_names
from .prepare import Derivation, ListFile, MatFile, RunLengths

SUBFOLDER = "VOCdevkit/VOC2010"
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
    """The folder ``data_root`` holds ``VOCdevkit``. Masks hold 0 to 59, as mmsegmentation's.

    The split ``segmentation-train`` is the train list of VOC 2010's segmentation task, on which GoCA evaluates.
    """

    # trainval_merged.json and the .mat files differ by three images.
    official_counts: ClassVar[Counts] = {"train": (4996, 4998), "val": (5104, 5105), SEGMENTATION_TRAIN: (964,)}
    subfolder = SUBFOLDER

    def __init__(self, *, order: Literal["alphabetical", "goca"] = "alphabetical", **arguments: Any) -> None:
        """Find the files; further arguments are those of FolderDataset.

        Args:
            order: Order of the classes; ``goca`` is that of its published code.
            arguments: Those of FolderDataset.
        """
        self.order = order
        super().__init__(**arguments)

    def layout(self, split: str) -> Layout:
        self.require("JPEGImages", UNPACK)
        prepare = prepare_command(self.name, self.data_root)
        list_file, hint = f"{LISTS}/{split}.txt", f"make it with: {prepare}"
        if split == SEGMENTATION_TRAIN:
            self.require(VOC_TRAIN, UNPACK)
            list_file = VOC_TRAIN
        self.require(list_file, hint)
        self.require(MASKS, hint)
        classes, palette = mmseg_metainfo("PascalContextDataset")
        entries = mmseg_entries("PascalContextDataset", self.root, "JPEGImages", MASKS, list_file)
        values = self._mask_values(classes)
        table = LabelTable.of({value: id for id, value in enumerate(values)} | {IGNORE_LABEL: IGNORE_LABEL})
        return Layout([classes[v] for v in values], [palette[v] for v in values], table, entries, prepare=prepare)

    def _mask_values(self, classes: Sequence[str]) -> list[int]:
        """The value that each class id has in a mask; GoCA counts classes in an order of its own."""
        if self.order == "alphabetical":
            return [*range(len(classes))]
        return [0, *(classes.index(row[0]) for row in class_names("goca", "context") if row)]

    @property
    def identity_options(self) -> dict[str, object]:
        return super().identity_options | ({} if self.order == "alphabetical" else {"order": self.order})

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Masks and lists, from trainval_merged.json where it is there, else from the .mat files."""
        if (root / SUBFOLDER / ANNOTATIONS).exists():
            return _from_json(root / SUBFOLDER)
        hint = f"unpack the official annotation: {ANNOTATIONS}, or the .mat files as trainval"
        require(root, f"{SUBFOLDER}/trainval", hint)
        return _from_mat(root)


def _from_json(folder: Path) -> Iterator[Derivation]:
    path, table = folder / ANNOTATIONS, raw_table()
    segments: dict[int, list[tuple[str, int]]] = defaultdict(list)
    masks: dict[str, list[RunLengths]] = {split: [] for split in SPLITS}
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        for segment in data["annos_segmentation"]:
            code, label = segment["segmentation"]["counts"], int(table[segment["category_id"]])
            segments[segment["image_id"]].append((code, label))
        for image in sorted(data["images"], key=lambda image: image["file_name"]):
            target = folder / MASKS / f"{Path(image['file_name']).stem}.png"
            size, drawn = (image["height"], image["width"]), tuple(segments[image["image_id"]])
            if image["phase"] in masks:
                masks[image["phase"]].append(RunLengths(path, target, size, drawn))
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error!r})", DOCUMENTATION) from error
    for split, split_masks in masks.items():
        yield from split_masks
        yield _list_file(folder, split, path, split_masks)


def _from_mat(root: Path) -> Iterator[Derivation]:
    """The split is VOC 2010's own, restricted to the images that have a .mat file."""
    folder = root / SUBFOLDER
    files = {path.stem: path for path in (folder / "trainval").glob("*.mat")}
    for split in SPLITS:
        source = require(root, f"{SUBFOLDER}/ImageSets/Main/{split}.txt", UNPACK)
        names = sorted({*read_list(source)} & files.keys())
        masks = [MatFile(files[name], folder / MASKS / f"{name}.png", raw_table()) for name in names]
        yield from masks
        yield _list_file(folder, split, source, masks)


def _list_file(folder: Path, split: str, source: Path, masks: Sequence[Derivation]) -> ListFile:
    return ListFile(source, folder / LISTS / f"{split}.txt", tuple(mask.target.stem for mask in masks))
