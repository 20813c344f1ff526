"""Images are read ahead in their order, in a stated number, and by threads that end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from segscale.bench.runs.reader import MOST_WORKERS, READ_AHEAD, ImageReader, workers_beside
from segscale.datasets.dataset import Dataset, Sample
from segscale.datasets.files import FileError
from segscale.errors import UserError


class Numbers(Dataset):
    """Images whose first pixel is their place; some cannot be read."""

    splits = ("val",)
    classes, palette, background = ("background",), ((0, 0, 0),), 0

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        super().__init__(name="numbers", split="val")
        self.bad = bad

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(100)))

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise FileError("damaged", f"image {index} is damaged")
        pixels = np.full((2, 3, 3), index, np.uint8)
        return Sample(str(index), Image.fromarray(pixels), np.zeros((2, 3), np.uint8))


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reading")]


@pytest.mark.parametrize("threads", [0, 2])
def test_images_come_in_order_and_unusable_ones_as_values_among_them(threads: int) -> None:
    asked = [5, 3, 9, 3, 0, 8, 7]
    read = list(ImageReader(Numbers(bad=frozenset({9, 0})), threads).read(asked))
    assert [index for index, _ in read] == asked
    for index, sample in read:
        if isinstance(sample, UserError):
            assert isinstance(sample, FileError)
            assert (index in (9, 0), sample.kind, sample.problem) == (True, "damaged", f"image {index} is damaged")
        else:
            assert sample.image.getpixel((0, 0)) == (index, index, index)
            assert sample.digests == Numbers()[index].digests
    assert not reading()


def test_no_images_need_no_thread() -> None:
    assert list(ImageReader(Numbers(), 2).read(iter(()))) == []


def test_only_a_stated_number_is_read_ahead_and_no_thread_stays_when_reading_ends_early() -> None:
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(100):
            asked.append(index)
            yield index

    with closing(ImageReader(Numbers(), 2).read(indices())) as images:
        taken = list(islice(images, 10))
        assert len(taken) == 10
        assert len(asked) <= 10 + 2 * READ_AHEAD
    assert not reading()


def test_workers_stand_beside_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert (workers_beside(torch.device("cpu")), workers_beside(torch.device("cuda"))) == (0, MOST_WORKERS)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert workers_beside(torch.device("cuda")) == 1
