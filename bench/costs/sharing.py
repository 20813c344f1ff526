"""What it saves that the methods of a job share forwards: jobs of a sweep against the same cells one by one.

Every job and every cell loads its weights, as its command would. The libraries of models are loaded before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tabulate import tabulate

from segscale.registry import build

from ...methods.method import Method
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..runs.plan import build_methods, build_task
from ..runs.store import RunStore

BACKBONES = ("pocket-sd15", "pocket-sdxl", "pocket-pixart-sigma", "pocket-sd3", "pocket-flux")
PROTOCOLS = ("standard", "standard-full")
IMAGES = 20
PAIRS = 3
"""Every other one begins with the cells, so that neither side gains by its place."""


@dataclass(frozen=True)
class Effort:
    """What some runs took."""

    seconds: float
    """By the clock."""
    forwards: int
    """Of the denoiser."""


@dataclass(frozen=True)
class Pair:
    """The same runs twice."""

    jobs: Effort
    """Methods that can share forwards together."""
    cells: Effort
    """One by one."""


def pairs(backbone_name: str, images: int, number: int) -> list[Pair]:
    """Runs of all methods that suit each protocol, again and again."""
    _effort(backbone_name, 1, together=True)  # first use of kernels and files
    measured: list[Pair] = []
    for place in range(number):
        sides = {together: _effort(backbone_name, images, together) for together in (place % 2 == 0, place % 2 == 1)}
        measured.append(Pair(jobs=sides[True], cells=sides[False]))
    return measured


def _effort(backbone_name: str, images: int, together: bool) -> Effort:
    stores: list[RunStore] = []
    with TemporaryDirectory() as folder:
        options = RunOptions(limit=images, results=Path(folder))
        start = time.perf_counter()
        for protocol_name in PROTOCOLS:
            for methods in _shares(backbone_name, protocol_name, together):
                task = build_task("pocket", build("protocol", protocol_name), options)
                stores.append(run_methods(backbone_name, methods, task, options)[0])
        seconds = time.perf_counter() - start
        counts = [store.load(store.read()) for store in stores]
    return Effort(seconds, sum(int(each.forwards_together.sum()) for each in counts))


def _shares(backbone_name: str, protocol_name: str, together: bool) -> list[list[Method]]:
    """What is run at once."""
    methods = build_methods(None, backbone_name, build("protocol", protocol_name))
    return [methods] if together else [[method] for method in methods]


def rows(backbone_names: Sequence[str], images: int, number: int) -> Iterator[list[object]]:
    """A line of the table for every backbone, and one for all together."""
    measured = {name: pairs(name, images, number) for name in backbone_names}
    for name, of_backbone in measured.items():
        yield _row(name, of_backbone)
    if len(measured) > 1:
        yield _row("all", [_together(each) for each in zip(*measured.values(), strict=True)])


def _together(measured: Sequence[Pair]) -> Pair:
    sides = [[each.jobs for each in measured], [each.cells for each in measured]]
    return Pair(*(Effort(sum(each.seconds for each in side), sum(each.forwards for each in side)) for side in sides))


def _row(name: str, measured: Sequence[Pair]) -> list[object]:
    cells, jobs = measured[0].cells.forwards, measured[0].jobs.forwards
    clock = [median(pair.cells.seconds for pair in measured), median(pair.jobs.seconds for pair in measured)]
    ratios = sorted(pair.cells.seconds / pair.jobs.seconds for pair in measured)
    spread = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return [name, cells, jobs, f"{cells / jobs:.2f}", *(f"{seconds:.1f}" for seconds in clock), spread]


def main() -> None:
    """Print the table of every backbone."""
    titles = ("", "forwards of cells", "of jobs", "ratio", "seconds of cells", "of jobs", "ratio")
    table = [*rows(sys.argv[1:] or BACKBONES, IMAGES, PAIRS)]
    sys.stdout.write(f"{IMAGES} images, protocols {' and '.join(PROTOCOLS)}, {PAIRS} pairs\n")
    sys.stdout.write(tabulate(table, titles, tablefmt="github", disable_numparse=True) + "\n")


if __name__ == "__main__":
    main()
