"""How much goes through a model together, and what happens when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from segscale.errors import UserError

from ...backbones.loading.options import LESS_MEMORY, is_out_of_memory
from .memory import PeakMemory

log = logging.getLogger(__name__)
USED_SHARE = 0.8
"""Of free memory that a batch may take: longer prompts take more than the first one did."""
MOST_ROWS = 16
"""A device is busy by then; more only make every step of a run longer."""
SMALLEST_CHUNK_SHARE = 1 / 32
"""Smaller chunks free no memory that would matter."""
Row = TypeVar("Row")


def rows_that_fit(free_bytes: int, row_bytes: int) -> int:
    """How many rows a forward may have whose first row took ``row_bytes``, with some memory to spare."""
    return max(1, min(int(USED_SHARE * free_bytes / max(row_bytes, 1)), MOST_ROWS))


class BatchLimit:
    """The largest number of rows of one forward, and of a chunk of attention; what memory halves stays so."""

    def __init__(self, rows: int | None = 1, noun: str = "image") -> None:
        """Start with ``rows``, which are a ``noun`` each; None: with one, until ``fit`` says how many fit."""
        self.rows = rows or 1
        self.noun = noun
        self._unfitted = rows is None
        self.chunk_share = 1.0
        """Of the memory that chunks of attention take otherwise."""

    def fit(self, memory: PeakMemory) -> None:
        """Once, after the first row: let as many share a forward as the device has memory for.

        Args:
            memory: Reset before that row.
        """
        if self._unfitted and memory.is_limited:
            self.rows = rows_that_fit(memory.free(), memory.growth())
        self._unfitted = False

    def over(self, rows: Sequence[Row], work: Callable[[Sequence[Row]], None], in_chunks: bool = False) -> None:
        """Do work on all rows, some at a time. It is repeated where it was too much, so it keeps nothing until it ends.

        Args:
            rows: In order.
            work: Takes at most ``self.rows`` of them.
            in_chunks: Whether it needs less memory at a smaller ``chunk_share``, which is tried with a single row.

        Raises:
            UserError: Where memory runs out for a single row.
        """
        done = 0
        while done < len(rows):
            batch = rows[done : done + self.rows]
            if self._fits(batch, work, in_chunks):
                done += len(batch)

    def batches(self, rows: Iterable[Row], key: Callable[[Row], object]) -> Iterator[list[Row]]:
        """Group neighbours with an equal key, at most as many as share a forward when the last of them comes."""
        batch: list[Row] = []
        for row in rows:
            if batch and key(row) != key(batch[0]):
                yield batch
                batch = []
            batch.append(row)
            if len(batch) >= self.rows:
                yield batch
                batch = []
        if batch:
            yield batch

    def _fits(self, batch: Sequence[Row], work: Callable[[Sequence[Row]], None], in_chunks: bool) -> bool:
        try:
            work(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1 and not (in_chunks and self.chunk_share > SMALLEST_CHUNK_SHARE):
                raise UserError(f"one {self.noun} does not fit into the device's memory", LESS_MEMORY) from error
        else:
            return True
        if len(batch) > 1:
            self.rows = len(batch) // 2
            problem = f"{len(batch)} {self.noun}s do not fit into the device's memory"
            log.warning("%s; %d share a forward now", problem, self.rows)
        else:
            self.chunk_share /= 2
            log.warning(
                "one %s does not fit into the device's memory; its attention is read in chunks of half the size",
                self.noun,
            )
        # What the failed attempt held is free only now that its frames are gone.
        torch.cuda.empty_cache()
        return False
