"""A stage of a run: work that threads do behind the main one, handed back in its order.

The model is one, so that it need not wait while the main thread prepares and stores; counting pixels is another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


class Stage(Generic[Result]):
    """Does work in threads and hands results back in the order of the work."""

    def __init__(self, name: str, threads: int, waiting: int, cores: int) -> None:
        """Without threads, work is done when it is given.

        Args:
            name: Of the threads.
            threads: How many there are.
            waiting: How much work per thread is given and not begun; whoever gives more waits.
            cores: That torch uses in each thread.
        """
        self._most = threads * (1 + waiting)
        self._waiting: deque[Future[Result]] = deque()
        self._pool = ThreadPoolExecutor(threads, name, torch.set_num_threads, (cores,)) if threads else None

    def __enter__(self) -> Stage[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def give(self, work: Callable[[], Result]) -> None:
        """Have work done, after waiting for room. What it raises is raised by ``each_done``."""
        if self._pool is None:
            self._waiting.append(_done(work))
            return
        while self._not_done() >= self._most:
            self._first_not_done().exception()
        self._waiting.append(self._pool.submit(work))

    def each_done(self, wait: bool = False) -> Iterator[Result]:
        """Results that no earlier work is missing before, or, after waiting, of all work.

        A result is forgotten when the next one is asked for, so an interrupt loses none.

        Raises:
            BaseException: What the work raised; asked again, this goes on with the work after it.
        """
        while self._waiting and (wait or self._waiting[0].done()):
            if error := self._waiting[0].exception():
                self._waiting.popleft()
                raise error
            yield self._waiting[0].result()
            self._waiting.popleft()

    def drop_waiting(self) -> None:
        """Forget work that is not begun."""
        self._waiting = deque(future for future in self._waiting if not future.cancel())

    def each_whole(self) -> Iterator[Result]:
        """Results of all work that raises nothing, after waiting."""
        while self._waiting:
            if self._waiting[0].exception() is None:
                yield self._waiting[0].result()
            self._waiting.popleft()

    def _not_done(self) -> int:
        return sum(not future.done() for future in self._waiting)

    def _first_not_done(self) -> Future[Result]:
        return next((future for future in self._waiting if not future.done()), self._waiting[0])


def _done(work: Callable[[], Result]) -> Future[Result]:
    """Work that is done at once, with what it raised."""
    future: Future[Result] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001 (kept for whoever asks for the result, as a pool keeps it)
        future.set_exception(error)
    return future
