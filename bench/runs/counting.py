"""Counts pixels behind the model, in threads, so that a device need not wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

import torch

WAITING = 2
"""Images per thread that are scored and not yet counted; beyond these the model waits."""
Result = TypeVar("Result")


class CountingThreads(Generic[Result]):
    """Does work in threads and hands results back in the order of the work."""

    def __init__(self, threads: int) -> None:
        """Without threads, work is done when it is given."""
        self._most = threads * (1 + WAITING)
        self._waiting: deque[Future[Result]] = deque()
        self._pool = None
        if threads:
            # One core each: the others are the model's.
            self._pool = ThreadPoolExecutor(threads, "counting", torch.set_num_threads, (1,))

    def __enter__(self) -> CountingThreads[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def give(self, work: Callable[[], Result]) -> None:
        """Have work done, after waiting for room. What it raises is raised by ``each_done``."""
        if self._pool is None:
            done: Future[Result] = Future()
            done.set_result(work())
            self._waiting.append(done)
            return
        while self._not_done() >= self._most:
            self._first_not_done().exception()
        self._waiting.append(self._pool.submit(work))

    def each_done(self, wait: bool = False) -> Iterator[Result]:
        """Results that no earlier work is missing before, or, after waiting, of all work.

        A result is forgotten when the next one is asked for, so an interrupt loses none.

        Raises:
            Exception: What the work raised; asked again, this goes on with the work after it.
        """
        while self._waiting and (wait or self._waiting[0].done()):
            try:
                result = self._waiting[0].result()
            except Exception:
                self._waiting.popleft()
                raise
            yield result
            self._waiting.popleft()

    def each_whole(self) -> Iterator[Result]:
        """Results of all work that raises nothing, after waiting."""
        while self._waiting:
            with suppress(Exception):
                yield from self.each_done(wait=True)

    def _not_done(self) -> int:
        return sum(not future.done() for future in self._waiting)

    def _first_not_done(self) -> Future[Result]:
        return next((future for future in self._waiting if not future.done()), self._waiting[0])
