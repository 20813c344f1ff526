"""Runs that a reader sets against each other: all methods on a backbone, or a method on all backbones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from ..comparison import Comparison, common_images, compare
from ..evaluated import EvaluatedRun
from ..pairs import made_alike
from .data import PageRun, PageRuns, Percent, percent

Shared = Literal["backbone", "method"]


@dataclass(frozen=True)
class Difference:
    """A run less a reference run, in points of mIoU."""

    run: int
    """Place among all runs of the page."""
    reference: int
    value: Percent
    low: Percent
    high: Percent
    p: float | None
    """Corrected by Holm's method over the differences of the group."""
    is_significant: bool


@dataclass(frozen=True)
class RunGroup:
    """Runs of one task that share backbone or method."""

    name: str
    task: int
    """Place of the task."""
    runs: tuple[int, ...]
    """Places among all runs of the page."""
    names: tuple[str, ...]
    """What tells each run from the others."""
    differences: tuple[Difference, ...]
    """Of every two runs that were made alike and evaluated some of the same images."""


def run_groups(page: PageRuns, evaluated: Sequence[EvaluatedRun]) -> list[RunGroup]:
    """Every group of the page: first the methods of each backbone, then the backbones of each method."""
    by_id = {run.run.run_id: run for run in evaluated}
    ordered = [by_id[run.id] for run in page.runs]
    return [*_groups(page, ordered, "backbone"), *_groups(page, ordered, "method")]


def _groups(page: PageRuns, ordered: Sequence[EvaluatedRun], shared: Shared) -> Iterator[RunGroup]:
    places: dict[tuple[int, str], list[int]] = {}
    for place, run in enumerate(page.runs):
        name = ordered[place].plan.backbone.label if shared == "backbone" else run.method
        places.setdefault((run.task, name), []).append(place)
    for (task, name), members in sorted(places.items()):
        if shared == "method":
            members.sort(key=lambda place: page.runs[place].parameters or 0)
        names = _names([page.runs[place] for place in members], shared)
        title = f"methods on {name}" if shared == "backbone" else f"backbones with {name}"
        yield RunGroup(title, task, tuple(members), names, tuple(_differences(members, ordered)))


def _names(runs: Sequence[PageRun], shared: Shared) -> tuple[str, ...]:
    """What the runs do not share; where that is the same for two, the whole name."""
    names = tuple(run.method if shared == "backbone" else run.backbone for run in runs)
    whole = tuple(f"{run.method} on {run.backbone}" for run in runs)
    return names if len({*names}) == len(names) else whole


def _differences(members: Sequence[int], ordered: Sequence[EvaluatedRun]) -> Iterator[Difference]:
    pairs = [
        (run, other)
        for run, other in combinations(members, 2)
        if made_alike(ordered[run], ordered[other]) and common_images(ordered[run], ordered[other])
    ]
    comparisons = compare([(ordered[run], ordered[reference]) for run, reference in pairs])
    for (run, reference), comparison in zip(pairs, comparisons, strict=True):
        yield _difference(run, reference, comparison)


def _difference(run: int, reference: int, comparison: Comparison) -> Difference:
    value, p = percent(comparison.difference.value), comparison.corrected_p
    low, high = map(percent, comparison.difference.bounds)
    shown = None if p is None else float(f"{p:.2g}")
    return Difference(run, reference, value, low, high, shown, comparison.is_significant)
