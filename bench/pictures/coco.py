"""Masks as a COCO dataset: one annotation per picture and class, run-length encoded.

The format is that of https://cocodataset.org/#format-data; pycocotools encodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as encoding

from segscale.files import replaced


class CocoRle(TypedDict):
    """A run-length encoding."""

    size: tuple[int, int]
    """Height and width."""
    counts: str


class CocoImage(TypedDict):
    """A picture."""

    id: int
    file_name: str
    width: int
    height: int


class CocoAnnotation(TypedDict):
    """The mask of one class in one picture."""

    id: int
    image_id: int
    category_id: int
    segmentation: CocoRle
    area: int
    bbox: list[float]
    """Left, top, width and height in pixels."""
    iscrowd: int


@dataclass
class CocoWriter:
    """Collects masks of pictures, of which all have the same classes."""

    categories: Mapping[int, str]
    """Names by the ids of label maps; what has no name, as background, is left out."""
    images: list[CocoImage] = field(default_factory=list)
    annotations: list[CocoAnnotation] = field(default_factory=list)

    def add(self, file_name: str, labels: NDArray[np.integer]) -> None:
        """Add a picture by its label map, ``(height, width)``."""
        height, width = labels.shape
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for category in self.categories:
            rle = encoding.encode(np.asfortranarray(labels == category, np.uint8))
            if area := int(encoding.area(rle)):
                self.annotations.append(
                    {
                        "id": len(self.annotations) + 1,
                        "image_id": image_id,
                        "category_id": category,
                        "segmentation": {"size": (height, width), "counts": cast("bytes", rle["counts"]).decode()},
                        "area": area,
                        "bbox": encoding.toBbox(rle).tolist(),
                        "iscrowd": 0,
                    }
                )

    def write(self, path: Path) -> None:
        """Write the dataset."""
        categories = [{"id": id, "name": name} for id, name in self.categories.items()]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(json.dumps(content) + "\n")


def pictures_named(path: Path) -> Iterable[str]:
    """The pictures of a COCO dataset; none where there is no such file or it is no such dataset."""
    try:
        return [image["file_name"] for image in json.loads(path.read_bytes())["images"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
