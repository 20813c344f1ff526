"""Images are read ahead in their order, whatever becomes of the processes that read them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscale.bench.runs.reader import MOST_WORKERS, READ_AHEAD, ImageReader, workers_beside
from segscale.datasets.dataset import Dataset, Sample
from segscale.datasets.files import FileError, read_image
from segscale.errors import UserError


class Numbers(Dataset):
    """Images whose first pixel is their place; some cannot be read."""

    splits = ("val",)
    classes, palette, background = ("background",), ((0, 0, 0),), 0

    def __init__(self, bad: frozenset[int] = frozenset(), deadly: int | None = None) -> None:
        super().__init__(name="numbers", split="val")
        self.bad, self.deadly, self.reader = bad, deadly, os.getpid()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(100)))

    def __getitem__(self, index: int) -> Sample:
        if index == self.deadly and os.getpid() != self.reader:
            os._exit(1)
        if index in self.bad:
            raise FileError("damaged", f"image {index} is damaged")
        pixels = np.full((2, 3, 3), index, np.uint8)
        return Sample(str(index), Image.fromarray(pixels), np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize("processes", [0, 2])
def test_images_come_in_order_and_unusable_ones_as_values_among_them(processes: int) -> None:
    asked = [5, 3, 9, 3, 0, 8, 7]
    read = list(ImageReader(Numbers(bad=frozenset({9, 0})), processes).read(asked))
    assert [index for index, _ in read] == asked
    for index, sample in read:
        if isinstance(sample, UserError):
            assert isinstance(sample, FileError)
            assert (index in (9, 0), sample.kind, sample.problem) == (True, "damaged", f"image {index} is damaged")
        else:
            assert sample.image.getpixel((0, 0)) == (index, index, index)
            assert sample.digests == Numbers()[index].digests
    assert not multiprocessing.active_children()


def test_no_images_need_no_process() -> None:
    assert list(ImageReader(Numbers(), 2).read(iter(()))) == []


def test_only_a_stated_number_is_read_ahead_and_no_process_stays_when_reading_ends_early() -> None:
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(100):
            asked.append(index)
            yield index

    with closing(ImageReader(Numbers(), 2).read(indices())) as images:
        taken = list(islice(images, 10))
        assert len(taken) == 10
        assert len(asked) <= 10 + 2 * READ_AHEAD + 1
    assert not multiprocessing.active_children()


def test_a_process_that_is_gone_is_one_line() -> None:
    with pytest.raises(UserError, match="process that reads images ended") as raised:
        list(ImageReader(Numbers(deadly=3), 1).read(range(6)))
    assert "--workers 0" in raised.value.hint
    assert not multiprocessing.active_children()


def test_reading_draws_nothing_from_torchs_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(ImageReader(Numbers(), 1).read(range(2)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["rgb.jpg", "palette.png", "grey.png"])
def test_a_picture_survives_the_way_between_processes(name: str, tmp_path: Path) -> None:
    mode = {"rgb": "RGB", "palette": "P", "grey": "L"}[name.partition(".")[0]]
    Image.linear_gradient("L").resize((9, 7)).convert("RGB").convert(mode).save(tmp_path / name)
    image = read_image(tmp_path / name)
    sample = Sample("a", image, np.zeros((7, 9), np.uint8))
    other = pickle.loads(pickle.dumps(sample))
    assert other.digests == sample.digests
    assert np.array_equal(np.asarray(other.image.convert("RGB")), np.asarray(image.convert("RGB")))


def test_workers_stand_beside_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert (workers_beside(torch.device("cpu")), workers_beside(torch.device("cuda"))) == (0, MOST_WORKERS)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert workers_beside(torch.device("cuda")) == 1
