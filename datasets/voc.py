"""Pascal VOC 2012 segmentation, read from an unpacked ``VOCdevkit/VOC2012``."""

from __future__ import annotations

from pathlib import Path

from segscale.errors import UserError
from segscale.registry import DATASETS

from .dataset import Dataset, Sample, unknown_split
from .files import read_image, read_label
from .openmmlab import import_mmseg

SPLITS = ("train", "val", "trainval")


@DATASETS.register_module()
class PascalVOC(Dataset):
    """data_root: the folder that holds ``VOCdevkit``. Classes, palette and file lists are mmsegmentation's."""

    background = 0

    def __init__(self, name: str, split: str, data_root: str | None = None) -> None:
        self.name = name
        self.split = split
        if split not in SPLITS:
            raise unknown_split(name, split, SPLITS)
        root = Path(data_root or f"data/{name}").expanduser() / "VOCdevkit" / "VOC2012"
        lists = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        for path in (lists, root / "JPEGImages", root / "SegmentationClass"):
            if not path.exists():
                raise UserError(f"there is no {path}", "unpack VOC 2012 and name its folder with --data-root")
        if not lists.read_text().strip():
            raise UserError(f"{lists} lists no image", "replace the file from the original dataset")
        source = import_mmseg("datasets").PascalVOCDataset(
            data_root=str(root),
            ann_file=f"ImageSets/Segmentation/{split}.txt",
            data_prefix={"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"},
            pipeline=[],
        )
        self.classes = tuple(source.metainfo["classes"])
        self.palette = tuple(tuple(colour) for colour in source.metainfo["palette"])
        entries = [source.get_data_info(index) for index in range(len(source))]
        self._files = [(Path(entry["img_path"]), Path(entry["seg_map_path"])) for entry in entries]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(image.stem for image, _ in self._files)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self._files[index]
        image = read_image(image_path)
        return Sample(image_path.stem, image, read_label(label_path, image.size, len(self.classes)))
