"""Reads the images of a dataset ahead of the model, in threads.

Decoding leaves Python's lock, so threads read beside each other and beside the model. An image from a process would
have to be copied on the model's time: on two cores that cost 4 to 7 ms an image, decoding one of VOC's takes 2.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch

from segscale.errors import UserError

from ...datasets.dataset import Dataset, Sample

READ_AHEAD = 2
"""Images per thread that are read and not yet taken."""
MOST_WORKERS = 4
ReadImage = tuple[int, Sample | UserError]
"""The place of an image in its dataset, and the sample or what is wrong with it."""


def workers_beside(device: torch.device) -> int:
    """How many threads read, and count, beside a device: none where it is the processor that they would use."""
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max((os.cpu_count() or 1) - 1, 1))


class ImageReader:
    """Reads images in the order in which they are asked for."""

    def __init__(self, dataset: Dataset, threads: int) -> None:
        """Without threads, an image is read when it is taken."""
        self._dataset, self._threads = dataset, threads

    def read(self, indices: Iterable[int]) -> Generator[ReadImage]:
        """Read images; ``indices`` is advanced in this thread, ``READ_AHEAD`` images per thread ahead of what is taken.

        No thread outlives this iterator.
        """
        waiting = iter(indices)
        if not self._threads:
            yield from map(self._sample, waiting)
            return
        with ThreadPoolExecutor(self._threads, "reading") as pool:
            ahead: deque[Future[ReadImage]] = deque()
            try:
                while True:
                    missing = READ_AHEAD * self._threads - len(ahead)
                    ahead.extend(pool.submit(self._sample, index) for index in islice(waiting, missing))
                    if not ahead:
                        return
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _sample(self, index: int) -> ReadImage:
        try:
            sample = self._dataset[index]
            _ = sample.digests  # where no file has them, they take time
        except UserError as error:
            return index, error
        return index, sample
