"""Pascal VOC 2012 segmentation, read from an unpacked ``VOCdevkit/VOC2012``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

from segscale.registry import DATASETS

from .files import FileError, missing_file, names_in
from .folder import Counts, Entry, FolderDataset, Layout, mmseg_entries, mmseg_metainfo, need, need_list
from .labels import LabelTable

UNPACK = "unpack VOC 2012 and name its folder with --data-root"


@DATASETS.register_module()
class PascalVOC(FolderDataset):
    """data_root: the folder that holds ``VOCdevkit``. Classes, palette and file lists are mmsegmentation's.

    present_from: ``annotations`` reads ``Sample.present`` from the object names of ``Annotations/<id>.xml``.
    """

    official: ClassVar[Counts] = {"train": (1464,), "val": (1449,), "trainval": (2913,)}
    below = "VOCdevkit/VOC2012"

    def __init__(self, present_from: Literal["label", "annotations"] = "label", **arguments: Any) -> None:
        self.present_from = present_from
        super().__init__(**arguments)
        if present_from == "annotations":
            need(self.root / "Annotations", UNPACK)

    @property
    def choices(self) -> dict[str, Any]:
        return super().choices | {"present_from": self.present_from}

    def _layout(self, split: str) -> Layout:
        lists = self.root / "ImageSets" / "Segmentation" / f"{split}.txt"
        need_list(lists, UNPACK)
        for folder in ("JPEGImages", "SegmentationClass"):
            need(self.root / folder, UNPACK)
        classes, palette = mmseg_metainfo("PascalVOCDataset")
        entries = mmseg_entries(
            "PascalVOCDataset", self.root, "JPEGImages", "SegmentationClass", f"ImageSets/Segmentation/{split}.txt"
        )
        return Layout(classes, palette, LabelTable.consecutive(len(classes)), entries)

    def present_of(self, entry: Entry) -> tuple[int, ...] | None:
        if self.present_from == "label":
            return None
        path = self.root / "Annotations" / f"{entry.id}.xml"
        try:
            names = {name.text for name in ElementTree.parse(path).iterfind("object/name")}
        except FileNotFoundError as error:
            raise missing_file(path, names_in(path.parent)) from error
        except (ElementTree.ParseError, OSError) as error:
            raise FileError("damaged", f"{path} is damaged ({error})") from error
        unknown = sorted(str(name) for name in names.difference(self.classes))
        if unknown:
            raise FileError("unknown id", f"{path} names {unknown[0]!r}, which is no class of {self.name}")
        return tuple(id for id, name in enumerate(self.classes) if name in names)
