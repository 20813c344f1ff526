"""ADE20K scene parsing (150 classes), read from an unpacked ``ADEChallengeData2016``."""

from __future__ import annotations

from typing import ClassVar

from segscale.prompt import BACKGROUND
from segscale.registry import DATASETS

from .folder import Counts, FolderDataset, Layout, MaskFolder, mmseg_entries, mmseg_metainfo
from .labels import LabelTable

FOLDERS = {"train": "training", "val": "validation"}
UNPACK = "unpack ADEChallengeData2016.zip and name its folder with --data-root"


@DATASETS.register_module()
class ADE20K(FolderDataset):
    """The folder ``data_root`` holds ``ADEChallengeData2016``. 0 in a mask is "other", the canonical background."""

    official_counts: ClassVar[Counts] = {"train": (20210,), "val": (2000,)}
    subfolder = "ADEChallengeData2016"

    def layout(self, split: str) -> Layout:
        images, labels = (f"{kind}/{FOLDERS[split]}" for kind in ("images", "annotations"))
        folders = MaskFolder(self.require(images, UNPACK), self.require(labels, UNPACK), ".jpg", ".png")
        classes, palette = mmseg_metainfo("ADE20KDataset")
        return Layout(
            (BACKGROUND, *classes),
            ((0, 0, 0), *palette),
            LabelTable.consecutive(len(classes) + 1),
            mmseg_entries("ADE20KDataset", self.root, images, labels),
            folders,
        )
