"""Cityscapes, 19 classes, read from unpacked ``leftImg8bit`` and ``gtFine``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from segscale.prompt import BACKGROUND
from segscale.registry import DATASETS

from .folder import Counts, FolderDataset, Layout, MaskFolder, mmseg_entries, mmseg_metainfo, require
from .labels import IGNORE_LABEL, LabelTable
from .prepare import Relabelled

UNPACK = "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip and name their folder with --data-root"
IMAGE_SUFFIX = "_leftImg8bit.png"

# labelIds of the 19 evaluated classes, in the order of their train ids; the ids go from 0 to 33.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LABEL_IDS = 34


def label_id_table() -> LabelTable:
    """The table of labelIds; those that are not evaluated are background."""
    other = dict.fromkeys((*range(LABEL_IDS), IGNORE_LABEL), 0)
    return LabelTable.of(other | {value: index + 1 for index, value in enumerate(EVALUATED)})


def train_id_table() -> LabelTable:
    """The table of labelTrainIds: 0 to 18, and 255 for the rest, which is background."""
    return LabelTable.of({index: index + 1 for index in range(len(EVALUATED))} | {IGNORE_LABEL: 0})


TABLES = {"labelIds": label_id_table, "labelTrainIds": train_id_table}


@DATASETS.register_module()
class Cityscapes(FolderDataset):
    """The folder ``data_root`` holds ``leftImg8bit`` and ``gtFine``."""

    official_counts: ClassVar[Counts] = {"train": (2975,), "val": (500,)}

    def __init__(self, *, labels: Literal["labelIds", "labelTrainIds"] = "labelIds", **arguments: Any) -> None:
        """Read the masks of ``labels``; further arguments are those of FolderDataset."""
        self.labels = labels
        super().__init__(**arguments)

    @property
    def identity_options(self) -> dict[str, object]:
        return super().identity_options | {"labels": self.labels}

    def layout(self, split: str) -> Layout:
        images, labels = f"leftImg8bit/{split}", f"gtFine/{split}"
        suffix = f"_gtFine_{self.labels}.png"
        folders = MaskFolder(self.require(images, UNPACK), self.require(labels, UNPACK), IMAGE_SUFFIX, suffix)
        classes, palette = mmseg_metainfo("CityscapesDataset")
        return Layout(
            (BACKGROUND, *classes),
            ((0, 0, 0), *palette),
            TABLES[self.labels](),
            mmseg_entries("CityscapesDataset", self.root, images, labels, seg_map_suffix=suffix),
            folders,
        )

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Relabelled]:
        """The masks labelTrainIds beside labelIds, where the authors' own script puts them."""
        folder = require(root, "gtFine", UNPACK)
        table = label_id_table().without_background()
        for source in sorted(folder.glob("*/*/*_gtFine_labelIds.png")):
            yield Relabelled(source, source.with_name(source.name.replace("_labelIds", "_labelTrainIds")), table)
