"""How all runs of a results folder fare, by what is stored: no process is asked, and no model is needed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from segscale.errors import StoreError

from ..runs.leases import STALE_SECONDS, Lease, read_leases
from ..runs.record import REMEDY, parse_brief, parse_run
from ..runs.store import RUN_FILE, RunStore, run_folders
from .durations import duration_text
from .record import CellRecord, JobRecord, JobState, Outcome, SweepFolder, find_sweeps, run_name

START_SECONDS = 2 * STALE_SECONDS
"""A job that began so long ago and holds no lease is dead."""
SHOWN = 30
"""More lines of one state than these are counted, not shown."""
ORDER: tuple[Outcome, ...] = ("running", "failed", "stopped", "waiting", "done")


@dataclass(frozen=True)
class RunStatus:
    """One run, or one cell of a sweep that is to become one."""

    label: str
    outcome: Outcome
    stored: int
    wanted: int
    per_second: float | None = None
    """Images, since the oldest process at work began."""
    line: str = ""
    """Why it failed, or who is at work."""
    log: str = ""

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None where there is none."""
        return (self.wanted - self.stored) / self.per_second if self.per_second else None


@dataclass(frozen=True)
class _Planned:
    """A cell of a sweep and how its job fares."""

    job: JobRecord
    cell: CellRecord
    state: JobState


def statuses(results: Path, sweeps: Sequence[SweepFolder] | None = None) -> list[RunStatus]:
    """Every stored run and every cell of a sweep, each once; of ``sweeps`` alone where they are given.

    A run of which sweeps want different numbers of images is there for each of these that it lacks.
    """
    planned = _once(each for sweep in (find_sweeps(results) if sweeps is None else sweeps) for each in _cells(sweep))
    by_run: dict[str, list[_Planned]] = {}
    for each in planned:
        by_run.setdefault(each.cell.run, []).append(each)
    leases = _leases_by_run(read_leases(results))
    folders = by_run if sweeps is not None else [run_name(folder, results) for folder in run_folders(results)]
    runs = {folder: _run_statuses(results, folder, by_run.get(folder, ()), leases) for folder in folders if folder}
    rest = [each for each in planned if not runs.get(each.cell.run)]
    return [*(line for lines in runs.values() for line in lines), *map(_cell_status, rest)]


def status_text(runs: Sequence[RunStatus], sweeps: Sequence[SweepFolder]) -> str:
    """Counts, then a line for everything that is not done."""
    counts = Counter(run.outcome for run in runs)
    summary = ", ".join(f"{counts[name]:,} {name}" for name in ORDER if counts[name])
    lines = [f"{len(runs):,} runs: {summary or 'none is stored'}"]
    lines += [_title(sweep) for sweep in sweeps]
    rows: list[tuple[str, ...]] = []
    for name in ORDER[:-1]:
        of_state = [run for run in runs if run.outcome == name]
        rows += [_row(run) for run in of_state[:SHOWN]]
        if len(of_state) > SHOWN:
            rows.append((name, f"and {len(of_state) - SHOWN:,} more", "", "", ""))
    if rows:
        titles = ("state", "run", "images", "rate", "")
        lines += ["", tabulate(rows, titles, tablefmt="simple", disable_numparse=True)]
    return "\n".join(lines)


def _title(sweep: SweepFolder) -> str:
    numbers = ", ".join(sweep.read().slurm_jobs)
    return f"sweep {sweep.folder.name}" + (f", on SLURM: job {numbers}" if numbers else "")


def _row(run: RunStatus) -> tuple[str, ...]:
    log = f" [{run.log}]" if run.log and run.outcome in ("failed", "running") else ""
    images = f"{run.stored:,} of {run.wanted:,}"
    rate = f"{60 * run.per_second:.3g} a minute, {duration_text(run.seconds_left)} left" if run.per_second else ""
    return run.outcome, run.label, images, rate, run.line + log


def _cells(sweep: SweepFolder) -> Iterator[_Planned]:
    record = sweep.read()
    for job in record.jobs:
        state = sweep.state(job)
        if record.cancelled and state.outcome == "waiting":
            state = replace(state, outcome="stopped")
        yield from (_Planned(job, cell, state) for cell in job.cells)


def _once(planned: Iterable[_Planned]) -> list[_Planned]:
    """Of cells that are the same images of a run, the one whose job began last; every one that was refused."""
    cells: dict[tuple[str | int, int], _Planned] = {}
    for place, each in enumerate(planned):
        key = (each.cell.run or place, each.job.images)
        if key not in cells or cells[key].state.since < each.state.since:
            cells[key] = each
    return [*cells.values()]


def _leases_by_run(leases: Iterable[Lease]) -> dict[str, list[Lease]]:
    by_run: dict[str, list[Lease]] = {}
    for lease in leases:
        for run in lease.runs:
            by_run.setdefault(run, []).append(lease)
    return by_run


def _run_statuses(
    results: Path, folder: str, planned: Sequence[_Planned], leases: Mapping[str, list[Lease]]
) -> list[RunStatus]:
    """What is wanted of a run and not there, or that all is; empty where there is no run yet."""
    store = RunStore(results / folder)
    if not (content := store.content()):
        return []
    brief = parse_brief(content)
    if brief is None:
        return [_unreadable(store, folder, content)]
    stored, skipped, at_work = store.count(wanted=brief.wanted), store.count_skipped(), leases.get(brief.run_id, [])
    wanted = {each.job.images: each for each in planned} or {brief.wanted: None}
    lacking = {images: each for images, each in wanted.items() if stored + skipped < images}
    if not lacking:
        return [RunStatus(brief.label, "done", stored, max(wanted))]
    if not at_work:
        return [_idle_status(brief.label, stored, images, each) for images, each in lacking.items()]
    rate, who = _work(store, at_work)
    logs = {images: each.state.log if each else "" for images, each in lacking.items()}
    return [RunStatus(brief.label, "running", stored, images, rate, who, log) for images, log in logs.items()]


def _unreadable(store: RunStore, folder: str, content: bytes) -> RunStatus:
    """Of a record that is damaged or of another format."""
    stored, line = store.count(), f"{RUN_FILE} cannot be read; {REMEDY}"
    try:
        parse_run(content, RUN_FILE)
    except StoreError as error:
        line = str(error)
    return RunStatus(folder, "failed", stored, stored, line=line)


def _work(store: RunStore, leases: Sequence[Lease]) -> tuple[float, str]:
    """Images per second since the oldest process at work began, and who is at work."""
    since = min(lease.since for lease in leases)
    who = ", ".join(f"{lease.host.partition(' ')[0]} pid {lease.pid}" for lease in leases)
    return store.count(since) / max(time.time() - since, 1.0), who


def _cell_status(planned: _Planned) -> RunStatus:
    """Of a cell without run."""
    return _idle_status(f"{planned.job.label} x {planned.cell.method}", 0, planned.job.images, planned)


def _idle_status(label: str, stored: int, wanted: int, planned: _Planned | None) -> RunStatus:
    """Of a run at which no process is known to work, as a sweep planned it, if one did."""
    if planned is None:
        return RunStatus(label, "stopped", stored, wanted)
    return RunStatus(label, _outcome(planned), stored, wanted, None, _line(planned), planned.state.log)


def _outcome(planned: _Planned) -> Outcome:
    """Of a cell that lacks images and at which no process is known to work."""
    if _line(planned):
        return "failed"
    state = planned.state
    if state.outcome == "running" and time.time() - state.since > START_SECONDS:
        return "stopped"
    return "stopped" if state.outcome == "done" else state.outcome


def _line(planned: _Planned) -> str:
    return planned.cell.problem or planned.state.failures.get(planned.cell.method, "")
