"""Folders of referring segmentation as their authors lay them out, a few small images large."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 60)
"""Height and width."""
SPLITS = ("train", "val", "testA", "testB", "test")


def square(left: int, top: int, side: int) -> list[float]:
    """A polygon in COCO's order."""
    right, bottom = left + side, top + side
    return [left, top, right, top, right, bottom, left, bottom]


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(values).save(path)


def refcoco(root: Path, folder: str = "refcoco", refs: str = "refs(unc).p") -> Path:
    """One reference of two expressions per split, in a pickle as Python 2 wrote them; splits share their image."""
    name = "COCO_train2014_000000000007.jpg"
    write_image(root / "images/train2014" / name, 7)
    height, width = SIZE
    crowd = {"counts": [0, 5, height * width - 5], "size": [height, width]}
    outlines = [[square(5 * place, 4, 10)] for place in range(len(SPLITS) - 1)]
    annotations = [
        {"id": 100 + place, "image_id": 7, "segmentation": outline} for place, outline in enumerate([*outlines, crowd])
    ]
    instances = {
        "images": [{"id": 7, "file_name": name, "height": height, "width": width}],
        "annotations": annotations,
    }
    references = [
        {
            "ref_id": place,
            "ann_id": 100 + place,
            "image_id": 7,
            "split": split,
            "file_name": "COCO_train2014_000000000007_0.jpg",
            "sentences": [{"sent": "the left  thing"}, {"sent": f"square {place}"}],
        }
        for place, split in enumerate(SPLITS)
    ]
    own = root / folder
    own.mkdir(parents=True)
    (own / "instances.json").write_text(json.dumps(instances))
    (own / refs).write_bytes(pickle.dumps(references, protocol=0))
    return root


def reasonseg(root: Path) -> Path:
    """A square in a larger square that is ignored, per split; one file is no UTF-8."""
    for place, split in enumerate(("train", "val", "test")):
        write_image(root / split / f"{place}.jpg", place)
        corners = np.array(square(4, 4, 10)).reshape(-1, 2).tolist()
        outer = np.array(square(2, 2, 30)).reshape(-1, 2).tolist()
        annotation = {
            "text": ["the caf\u00e9's sign, that shows where to go", "another question"],
            "is_sentence": True,
            "shapes": [
                {"label": "target", "shape_type": "polygon", "points": corners},
                {"label": "ignore", "shape_type": "polygon", "points": outer},
                {"label": "flag", "shape_type": "polygon", "points": [[0, 0], [59, 0], [59, 39]]},
            ],
        }
        text = json.dumps(annotation, ensure_ascii=False)
        (root / split / f"{place}.json").write_bytes(text.encode("cp1252" if split == "val" else "utf-8"))
    return root
