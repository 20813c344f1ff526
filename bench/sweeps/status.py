"""How all runs of a results folder fare, by what is stored: no process is asked, and no model is needed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from ..runs.leases import STALE_SECONDS, Lease, read_leases
from ..runs.record import parse_brief
from ..runs.store import RunStore, run_folders
from .durations import duration_text
from .record import CellRecord, JobRecord, JobState, Outcome, SweepFolder, find_sweeps

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
    """Every stored run and every cell of a sweep, each once; of ``sweeps`` alone where they are given."""
    planned = [each for sweep in (find_sweeps(results) if sweeps is None else sweeps) for each in _cells(sweep)]
    by_run = {each.cell.run: each for each in planned if each.cell.run}
    leases = _leases_by_run(read_leases(results))
    folders = [*by_run] if sweeps is not None else [_below(folder, results) for folder in run_folders(results)]
    known = [_run_status(results, folder, by_run.get(folder), leases) for folder in folders]
    runs = dict(zip(folders, known, strict=True))
    rest = [each for each in planned if runs.get(each.cell.run) is None]
    return [*(run for run in known if run is not None), *map(_cell_status, rest)]


def status_text(runs: Sequence[RunStatus], sweeps: Sequence[SweepFolder]) -> str:
    """Counts, then a line for everything that is not done."""
    counts = Counter(run.outcome for run in runs)
    summary = ", ".join(f"{counts[name]:,} {name}" for name in ORDER if counts[name])
    lines = [f"{len(runs):,} runs: {summary or 'none is stored'}"]
    lines += [f"sweep {sweep.folder.name}" for sweep in sweeps]
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


def _below(folder: Path, results: Path) -> str:
    return "/".join(folder.parts[len(results.parts) :])


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


def _leases_by_run(leases: Iterable[Lease]) -> dict[str, list[Lease]]:
    by_run: dict[str, list[Lease]] = {}
    for lease in leases:
        for run in lease.runs:
            by_run.setdefault(run, []).append(lease)
    return by_run


def _run_status(
    results: Path, folder: str, planned: _Planned | None, leases: Mapping[str, list[Lease]]
) -> RunStatus | None:
    """None where there is no run yet."""
    store = RunStore(results / folder)
    brief = parse_brief(content) if (content := store.content()) else None
    if brief is None:
        return None
    wanted = brief.wanted if planned is None else planned.job.images
    stored = store.count()
    if stored + len(store.skipped_reasons()) >= wanted:
        return RunStatus(brief.label, "done", stored, wanted)
    at_work = leases.get(brief.run_id, [])
    if at_work:
        since = min(lease.since for lease in at_work)
        per_second = store.count(since) / max(time.time() - since, 1.0)
        who = ", ".join(f"{lease.host.partition(' ')[0]} pid {lease.pid}" for lease in at_work)
        log = planned.state.log if planned else ""
        return RunStatus(brief.label, "running", stored, wanted, per_second, who, log)
    if planned is None:
        return RunStatus(brief.label, "stopped", stored, wanted)
    return RunStatus(brief.label, _outcome(planned), stored, wanted, None, _line(planned), planned.state.log)


def _cell_status(planned: _Planned) -> RunStatus:
    """Of a cell without run."""
    label = f"{planned.job.label} x {planned.cell.method}"
    return RunStatus(label, _outcome(planned), 0, planned.job.images, None, _line(planned), planned.state.log)


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
