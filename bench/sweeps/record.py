"""What is stored of a sweep: its jobs in ``sweep.json``, and beside it how each of them fares.

``sweeps/<name>-<id>/`` lies beside ``runs/`` in the results. Numbers are in the runs alone; all of this may be removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from segscale.errors import UserError
from segscale.files import explained_writes, replaced
from segscale.places import make_folder

FOLDER = "sweeps"
ID_LENGTH = 8
Outcome = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(frozen=True)
class CellRecord:
    """One run of a job."""

    method: str
    run: str = ""
    """Its folder below the results, empty where it was refused."""
    problem: str = ""
    """Why it was refused before anything ran."""


@dataclass(frozen=True)
class JobRecord:
    """A job as it was planned."""

    key: str
    label: str
    command: tuple[str, ...]
    """Words after ``segscale``, empty where every cell was refused."""
    cells: tuple[CellRecord, ...]
    images: int
    """Of each cell."""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it was planned."""

    name: str
    jobs: tuple[JobRecord, ...]
    logs: str = ""
    """Folder of the jobs' logs, on the machine that runs them."""
    slurm_jobs: tuple[str, ...] = ()
    """Numbers of its array jobs, one for each time that it was submitted."""
    cancelled: bool = False
    """Whether ``segscale sweep --cancel`` ended it."""


@dataclass(frozen=True)
class JobState:
    """How a job fares."""

    outcome: Outcome = "waiting"
    failures: dict[str, str] = field(default_factory=dict)
    """By method, the line in which it ended."""
    log: str = ""
    host: str = ""
    device: str = ""
    since: float = 0.0
    """When it began, in seconds since 1970."""
    attempts: int = 0
    """How often it was started; more than once after a preemption."""


_SWEEP = TypeAdapter(SweepRecord)
_STATE = TypeAdapter(JobState)


class SweepFolder:
    """The folder of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, results: Path, name: str, asked: Sequence[str]) -> SweepFolder:
        """The folder of what is asked for in words: the same command finds it again, whatever can run by then."""
        digest = hashlib.sha256(json.dumps([*asked]).encode()).hexdigest()[:ID_LENGTH]
        return cls(results / FOLDER / f"{name}-{digest}")

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder.parent.parent

    def plan(self, sweep: SweepRecord) -> None:
        """Replace the plan; array jobs of an earlier one may still run, so their numbers stay known."""
        known = self.read().slurm_jobs if self._plan_path.exists() else ()
        self.write(replace(sweep, slurm_jobs=known))

    def write(self, sweep: SweepRecord) -> None:
        """Replace the record."""
        with explained_writes(self.folder):
            make_folder(self.folder)
            with replaced(self._plan_path) as file:
                file.write(_SWEEP.dump_json(sweep, indent=2).decode() + "\n")

    def read(self) -> SweepRecord:
        """The plan. Raises UserError where it cannot be read."""
        try:
            return _SWEEP.validate_json(self._plan_path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(f"{self._plan_path} cannot be read", f"remove {self.folder}; the runs stay") from error

    def write_state(self, job: JobRecord, state: JobState) -> None:
        """Replace what is known of a job."""
        path = self._state_path(job)
        with explained_writes(self.folder):
            make_folder(path.parent)
            with replaced(path) as file:
                file.write(_STATE.dump_json(state, indent=2).decode() + "\n")

    def reset(self, jobs: Sequence[JobRecord]) -> None:
        """Have jobs wait that are to run, whatever became of them before."""
        for job in jobs:
            self.write_state(job, replace(self.state(job), outcome="waiting", failures={}))

    def state(self, job: JobRecord) -> JobState:
        """What is known of a job; one that never started, or whose file is damaged, waits."""
        try:
            return _STATE.validate_json(self._state_path(job).read_bytes())
        except (OSError, ValidationError):
            return JobState()

    @property
    def _plan_path(self) -> Path:
        return self.folder / "sweep.json"

    def _state_path(self, job: JobRecord) -> Path:
        return self.folder / "jobs" / f"{job.key}.json"


def run_name(folder: Path, results: Path) -> str:
    """What records call a run: its folder below ``results``."""
    return "/".join(folder.parts[len(results.parts) :])


def find_sweeps(results: Path) -> list[SweepFolder]:
    """All sweeps below ``results``, by name."""
    return [SweepFolder(path.parent) for path in sorted((results / FOLDER).glob("*/sweep.json"))]


def named_sweep(results: Path, name: str) -> SweepFolder:
    """The one sweep whose folder begins with ``name``. Raises UserError for none or several."""
    found = [sweep for sweep in find_sweeps(results) if sweep.folder.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(sweep.folder.name for sweep in found or find_sweeps(results)) or "none"
        raise UserError(f"{len(found)} sweeps of {results} begin with {name!r}", f"name one of: {names}")
    return found[0]


def last_line(log: str) -> str:
    """The line in which a command ended: its error, or the last one that says anything."""
    lines = [line.strip() for line in re.split(r"[\r\n]", log) if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines or ["it said nothing"])[-1]


ERROR = "segscale: error: "
