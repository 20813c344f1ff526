"""One function over many items in several processes, with a progress bar; results come in the order of the items."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

from segscale.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK_SIZE = 16


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str
) -> Iterator[Result]:
    """The results of ``function`` for all items; it and the items must pickle. One worker is this process itself."""
    if not items:
        return
    if workers == 1 or len(items) <= CHUNK_SIZE:
        yield from map(function, tqdm(items, desc=title, unit="file"))
        return
    # A forked child would inherit the threads' locks of the libraries that are loaded here.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield from tqdm(pool.map(function, items, chunksize=CHUNK_SIZE), total=len(items), desc=title, unit="file")
    except BrokenProcessPool as error:
        raise UserError("a worker process died, most likely for want of memory", "try fewer: --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
