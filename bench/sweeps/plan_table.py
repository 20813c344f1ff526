"""A sweep's plan as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tabulate import tabulate

from .durations import duration_text
from .plan import PlannedJob

NAMED = 3
"""Jobs that one line of a problem names."""


def plan_table(jobs: Sequence[PlannedJob]) -> str:
    """A line per job that has cells to run, then what was refused and what they come to together."""
    running = [job for job in jobs if job.cells]
    refused = sum(bool(cell.problem) for job in jobs for cell in job.record.cells)
    rows = [_row(job) for job in running]
    titles = ("job", "cells", "images", "forwards", "time", "stored")
    table = tabulate(rows, titles, tablefmt="simple", disable_numparse=True) if rows else "nothing can run"
    return "\n".join([table, "", *_notes(jobs), *_refusals(jobs), _total(running, refused)])


def _row(job: PlannedJob) -> tuple[str, ...]:
    cells, images, stored = str(job.cells), f"{job.record.images:,}", f"{1 - job.left:.0%}"
    return job.record.label, cells, images, _forwards(job), duration_text(job.seconds), stored


def _forwards(job: PlannedJob) -> str:
    images = job.record.images
    at_least = ">= " * job.forwards.at_least
    return f"{at_least}{job.forwards.shared * images:,.0f} for {job.forwards.alone * images:,.0f}"


def _notes(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    for job in jobs:
        yield from (f"note     {job.record.label}: {note}" for note in job.notes)


def _refusals(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """Every problem once, with what it keeps from running."""
    refused: dict[str, list[str]] = {}
    for job in jobs:
        for problem in job.problems:
            refused.setdefault(problem, []).append(job.record.label)
        for cell in job.record.cells:
            if cell.problem and not job.problems:
                refused.setdefault(cell.problem, []).append(f"{job.record.label} x {cell.method}")
    for problem, labels in refused.items():
        others = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        yield f"refused  {', '.join(labels[:NAMED])}{others}: {problem}"


def _total(jobs: Sequence[PlannedJob], refused: int) -> str:
    cells, images = sum(job.cells for job in jobs), sum(job.wanted for job in jobs)
    shared = sum(job.forwards.shared * job.record.images for job in jobs)
    alone = sum(job.forwards.alone * job.record.images for job in jobs)
    asked = f"{images:,} images, {shared:,.0f} forwards instead of {alone:,.0f}"
    return f"{len(jobs)} jobs, {cells} cells ({refused} refused), {asked}; {_duration(jobs)}"


def _duration(jobs: Sequence[PlannedJob]) -> str:
    known = [job.seconds for job in jobs if job.seconds is not None]
    if not known:
        return "no stored run says how long they take"
    without = len(jobs) - len(known)
    unknown = f", and {without} jobs of backbones without stored run" if without else ""
    return f"about {duration_text(sum(known))} of one device, by stored runs{unknown}"
