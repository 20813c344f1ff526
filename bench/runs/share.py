"""The images of a run that this process computes, beside other processes that compute it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from tqdm import tqdm

from ...datasets.dataset import Dataset, repeated_places
from ..inference.batch import BatchLimit
from .leases import HeldLease
from .method_run import MethodRun
from .reader import ImageReader, ReadImage

CLAIM_SECONDS = 1.0
"""Images are claimed for about so long at once."""
MOST_CLAIMED = 16
FIRST_WAIT, LONGEST_WAIT = 0.05, 0.5
"""Seconds between two looks at the images that other processes hold, when no others are left."""


def waiting_times() -> Iterator[float]:
    """Seconds to wait for other processes, longer each time: most are done soon, and a far disk is asked seldom."""
    seconds = FIRST_WAIT
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_WAIT)


class ImageShare:
    """Takes images that no other process holds, and has them read."""

    def __init__(
        self, dataset: Dataset, runs: Sequence[MethodRun], lease: HeldLease, limit: BatchLimit, reader: ImageReader
    ) -> None:
        self._ids = dataset.ids
        """A dataset may make them anew at every look."""
        self._repeats = repeated_places(self._ids)
        self._runs, self._lease, self._limit, self._reader = runs, lease, limit, reader

    def name(self, index: int) -> str:
        """An image's id; of a place whose id came before, that too."""
        return f"{self._ids[index]} (again)" if index in self._repeats else self._ids[index]

    def release(self, indices: Iterable[int]) -> None:
        """Let other processes see that images are stored."""
        self._lease.release(indices)

    def passes(
        self, indices: Sequence[int], progress: tqdm[Any], before_waiting: Callable[[], None]
    ) -> Iterator[Iterator[ReadImage]]:
        """Read images, pass by pass, until every one is stored, whoever does it.

        Args:
            indices: Of the images.
            progress: Its total becomes what this process took and what nobody did yet.
            before_waiting: Stores what is computed, which others may wait for.
        """
        open_indices, waits = list(indices), waiting_times()
        while open_indices:
            with closing(self._reader.read(self._claimed(open_indices, progress))) as images:
                yield images
            if open_indices:
                before_waiting()
                progress.set_postfix_str(f"waiting for {len(open_indices)} images of other processes")
                time.sleep(next(waits))

    def _claimed(self, open_indices: list[int], progress: tqdm[Any]) -> Iterator[int]:
        """Take images from ``open_indices``, until other processes hold all that are left."""
        began, done_before = time.monotonic(), progress.n
        taken = done_before
        while open_indices:
            most = self._most_at_once(progress.n - done_before, time.monotonic() - began)
            claimed = self._lease.claim(open_indices, most)
            for run in self._runs:
                run.look_for_stored()
            due = [index for index in claimed if self._is_due(index)]
            self._lease.release({*claimed} - {*due})
            open_indices[:] = [index for index in open_indices if index not in claimed and self._is_due(index)]
            taken += len(due)
            progress.total = taken + len(open_indices)
            if not claimed:
                return
            yield from due

    def _most_at_once(self, done: int, seconds: float) -> int:
        """How many images are claimed next, in whole batches, where ``done`` took so many seconds."""
        affordable = int(CLAIM_SECONDS * done / seconds) if seconds else 0
        rows = self._limit.rows
        return max(min(affordable, MOST_CLAIMED) // rows, 1) * rows

    def _is_due(self, index: int) -> bool:
        """Whether the image is not known to be stored. A repeated id is due until it was looked at and named."""
        return index in self._repeats or any(self._ids[index] in run.due for run in self._runs)


def own_first(indices: range, rank: int, world: int) -> list[int]:
    """All images, each rank's beginning with every n-th, so that ranks seldom want the same before the last ones."""
    return [index for place in range(world) for index in indices[(rank + place) % world :: world]]
