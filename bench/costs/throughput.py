"""Images per second and core of evaluation without a model: ``python -m segscale.bench.costs.throughput``.

Reading and decoding a JPEG and its PNG mask, resizing the scores of the classes present to the mask, and counting
areas at nine thresholds, over the classes of VOC and of ADE20K; and what the digests of the files cost beside decoding.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from ...datasets.dataset import Dataset, Sample
from ...datasets.files import digest, read_image, read_label
from ...datasets.labels import colour_map
from ...methods.method import ClassScores
from ..evaluation.decision import Decision
from ..evaluation.labelling import decide_pixels
from ..evaluation.pixel_counts import count_pixels

IMAGES = 40
DIGESTED_IMAGES = 1000
SCORE_SIDE = 64
THRESHOLDS = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Load:
    """The size of a dataset's images and vocabulary."""

    name: str
    width: int
    """Of images, in pixels."""
    height: int
    classes: int
    """Of the dataset."""
    present: int
    """Classes in an image, with a score map each."""


LOADS = (Load("VOC", 500, 375, 21, 3), Load("ADE20K", 683, 512, 150, 9))


def images_per_second(load: Load, folder: Path, images: int) -> tuple[float, float]:
    """Rates per second of processor time and of wall time, one torch thread, after one image that does not count."""
    cases = list(write_cases(load, folder, images + 1))
    decision = Decision(load.classes, 0, "offset", THRESHOLDS, "zero")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _evaluate(cases[0], load, decision)
    start = time.process_time(), time.perf_counter()
    for case in cases[1:]:
        _evaluate(case, load, decision)
    seconds = time.process_time() - start[0], time.perf_counter() - start[1]
    torch.set_num_threads(threads)
    return images / seconds[0], images / seconds[1]


def digest_share(load: Load, folder: Path, images: int) -> float:
    """Processor time of the digests of image and mask files, as a share of that of decoding them."""
    cases = list(write_cases(load, folder, images))
    contents = [path.read_bytes() for case in cases for path in (case.image, case.mask)]
    start = time.process_time()
    for case in cases:
        read_label(case.mask, read_image(case.image).size, load.classes)
    read = time.process_time()
    for content in contents:
        digest(content)
    digests = time.process_time() - read
    return digests / (read - start - digests)


@dataclass(frozen=True)
class Case:
    """One image of a load."""

    image: Path
    mask: Path
    ids: tuple[int, ...]
    """Of the classes present."""
    scores: ClassScores
    """Of these."""


def write_cases(load: Load, folder: Path, images: int) -> Iterator[Case]:
    """Blobs of classes as a mask, and a noisy photograph of them."""
    rng = np.random.default_rng(0)
    size = (load.width, load.height)
    for number in range(images):
        ids = np.sort(rng.choice(np.arange(1, load.classes), load.present, replace=False))
        coarse = rng.choice([0, *ids], (6, 8)).astype(np.uint8)
        mask = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
        colours = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC), np.float32)
        noisy = (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)
        paths = (folder / f"{load.name}-{number}.jpg", folder / f"{load.name}-{number}.png")
        Image.fromarray(noisy).save(paths[0], quality=90)
        mask.save(paths[1])
        maps = torch.from_numpy(rng.random((load.present + 1, SCORE_SIDE, SCORE_SIDE), np.float32))
        yield Case(*paths, tuple(int(i) for i in ids), ClassScores(maps[:-1], maps[-1]))


class LoadPictures(Dataset):
    """The pictures of a load as a dataset, again and again."""

    splits = ("val",)

    def __init__(self, load: Load, folder: Path, files: int, images: int) -> None:
        """Write ``files`` different pictures into ``folder``, of which ``images`` are made."""
        super().__init__(name=load.name, split="val")
        self.classes = ("background", *map(str, range(1, load.classes)))
        self.palette, self.background = colour_map(load.classes), 0
        self._cases, self._images = list(write_cases(load, folder, files)), images

    @property
    def ids(self) -> tuple[str, ...]:
        """Their numbers."""
        return tuple(map(_picture_id, range(self._images)))

    def __getitem__(self, index: int) -> Sample:
        case = self._cases[index % len(self._cases)]
        image = read_image(case.image)
        return Sample(_picture_id(index), image, read_label(case.mask, image.size, len(self.classes)))


def _picture_id(number: int) -> str:
    return f"{number:05d}"


def _evaluate(case: Case, load: Load, decision: Decision) -> None:
    image = read_image(case.image)
    label = read_label(case.mask, image.size, load.classes)
    won = decide_pixels(case.scores, case.ids, decision, label.shape)
    count_pixels(won, decision, label)


def main() -> None:
    """Measure every load and print its rates."""
    with TemporaryDirectory() as folder:
        for load in LOADS:
            processor, wall = images_per_second(load, Path(folder), IMAGES)
            about = f"{load.width}x{load.height}, {load.classes} classes, {load.present} present"
            sys.stdout.write(
                f"{load.name}: {processor:.0f} images per second of one core, {wall:.0f} by the clock "
                f"({about}, {len(THRESHOLDS)} thresholds)\n"
            )
        share = digest_share(LOADS[0], Path(folder), DIGESTED_IMAGES)
        files = f"{DIGESTED_IMAGES} images and masks of {LOADS[0].name}'s size"
        sys.stdout.write(f"digests of {files} take {share:.1%} of the time of decoding them\n")


if __name__ == "__main__":
    main()
