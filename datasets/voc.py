"""Pascal VOC 2012 segmentation, read from an unpacked ``VOCdevkit/VOC2012``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

from segscale.registry import DATASETS

from .files import FileError, check_regular, missing_file, names_in
from .folder import Counts, Entry, FolderDataset, Layout, mmseg_entries, mmseg_metainfo
from .labels import LabelTable

UNPACK = "unpack VOC 2012 and name its folder with --data-root"


@DATASETS.register_module()
class PascalVOC(FolderDataset):
    """The folder ``data_root`` holds ``VOCdevkit``. Classes, palette and file endings are mmsegmentation's."""

    official_counts: ClassVar[Counts] = {"train": (1464,), "val": (1449,), "trainval": (2913,)}
    subfolder = "VOCdevkit/VOC2012"

    def __init__(self, *, present_from: Literal["label", "annotations"] = "label", **arguments: Any) -> None:
        """Find the files; further arguments are those of FolderDataset.

        Args:
            present_from: ``annotations`` reads ``Sample.present`` from the object names of ``Annotations/<id>.xml``.
            arguments: Those of FolderDataset.
        """
        self.present_from = present_from
        super().__init__(**arguments)
        if present_from == "annotations":
            self.require("Annotations", UNPACK)

    @property
    def identity_options(self) -> dict[str, object]:
        return super().identity_options | {"present_from": self.present_from}

    def layout(self, split: str) -> Layout:
        list_file, images, masks = f"ImageSets/Segmentation/{split}.txt", "JPEGImages", "SegmentationClass"
        for path in (list_file, images, masks):
            self.require(path, UNPACK)
        classes, palette = mmseg_metainfo("PascalVOCDataset")
        entries = mmseg_entries("PascalVOCDataset", self.root, images, masks, list_file)
        return Layout(classes, palette, LabelTable.consecutive(len(classes)), entries)

    def present_of(self, entry: Entry) -> tuple[int, ...] | None:
        if self.present_from == "label":
            return None
        path = self.root / "Annotations" / f"{entry.id}.xml"
        try:
            check_regular(path)
            names = {name.text for name in ElementTree.parse(path).iterfind("object/name")}
        except FileNotFoundError as error:
            raise missing_file(path, names_in(path.parent)) from error
        except (ElementTree.ParseError, OSError) as error:
            raise FileError("damaged", f"{path} is damaged ({error})") from error
        unknown = sorted(str(name) for name in names.difference(self.classes))
        if unknown:
            raise FileError("unknown id", f"{path} names {unknown[0]!r}, which is no class of {self.name}")
        return tuple(id for id, name in enumerate(self.classes) if name in names)
