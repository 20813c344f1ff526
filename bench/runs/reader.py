"""Reads the images of a dataset ahead of the model, in processes of torch's DataLoader."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segscale.errors import UserError

from ...datasets.dataset import Dataset, Sample

READ_AHEAD = 2
"""Images that every process reads ahead."""
MOST_WORKERS = 4
T = TypeVar("T")
ReadImage = tuple[int, Sample | UserError]
"""The place of an image in its dataset, and the sample or what is wrong with it."""


def workers_beside(device: torch.device) -> int:
    """How many processes and threads work beside a device: none where it is the processor that they would use."""
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max((os.cpu_count() or 1) - 1, 1))


class ImageReader:
    """Reads images in the order in which they are asked for."""

    def __init__(self, dataset: Dataset, processes: int) -> None:
        """At most ``READ_AHEAD`` images per process are read and not yet taken; no processes: each when it is taken."""
        self._samples = _Samples(dataset)
        self._processes = processes

    def read(self, indices: Iterable[int]) -> Generator[ReadImage]:
        """Read images; ``indices`` is advanced in this process, ahead of what is taken.

        No process outlives this iterator, nor this process.
        """
        waiting = iter(indices)
        first = list(_next(waiting))
        if not self._processes or not first:
            yield from map(self._samples.__getitem__, chain(first, waiting))
            return
        loader = DataLoader(
            self._samples,
            batch_size=None,
            sampler=_Once(chain(first, waiting)),
            num_workers=self._processes,
            prefetch_factor=READ_AHEAD,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),
        )
        yield from self._watched(iter(loader))

    def _watched(self, read: Iterator[ReadImage]) -> Iterator[ReadImage]:
        while True:
            try:
                image = next(read)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                hint = "memory may have run out; read in one process with --workers 0"
                raise UserError("a process that reads images ended", hint) from error
            yield image


class _Samples(TorchDataset[ReadImage]):
    """A dataset whose unusable images are values, so that they reach the run in their order."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> ReadImage:
        try:
            sample = self.dataset[index]
            _ = sample.digests  # where no file has them, they take time
        except UserError as error:
            return index, error
        return index, sample


class _Once:
    """A sampler that gives what one iterator gives."""

    def __init__(self, indices: Iterator[int]) -> None:
        self._indices = indices

    def __iter__(self) -> Iterator[int]:
        return self._indices


def _next(indices: Iterator[int]) -> Iterator[int]:
    with suppress(StopIteration):
        yield next(indices)


def _as_it_is(read: T) -> T:
    return read


def _leave_signals(_: int) -> None:
    """Leave interrupts to the process that reads the images; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
