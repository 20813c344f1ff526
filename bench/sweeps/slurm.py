"""Jobs of a sweep on SLURM, through submitit: one array job, whose tasks are requeued when they are preempted."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from segscale.errors import UserError
from segscale.places import place

from .job_process import JobProcess
from .record import JobRecord, JobState, SweepFolder

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

EXTRA = "in the clone: pip install -e '.[slurm]'"
MOST_TIMEOUTS = 10_000
"""A task may reach its time limit so often; each time it stores what it has and is requeued."""
LIMIT_SECONDS = 120
"""So long before the time limit a task is told, which is more than an image takes."""
LEAST_MINUTES = 5
"""Of a time limit: libraries and weights are loaded before the first image."""


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of SLURM for every job."""

    partition: str | None = None
    gres: str | None = None
    """Generic resources, such as ``gpu:1``."""
    time: int = 240
    """Limit in minutes; a job that needs longer goes on in a next turn."""
    mem: str | None = None
    """Memory, such as ``32G``."""
    array_parallelism: int = 256
    """Jobs that run at once at most."""


@dataclass
class RunTask:
    """One task of the array, as submitit stores it. It runs in the main thread of the task's process."""

    folder: str
    job: JobRecord
    log: str
    device: str
    _process: JobProcess | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __call__(self) -> None:
        """Run the job to its end, or until SLURM wants the machine. A cell that failed is the task's failure."""
        states: list[JobState] = []
        sweep = SweepFolder(place(self.folder))
        process = self._process = JobProcess(sweep, self.job, Path(self.log), self.device)
        # submitit's handler of SIGUSR2 asks for a checkpoint and requeues; its handler of SIGTERM does nothing.
        signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR2))
        signal.signal(signal.SIGTERM, self._terminated)
        # A signal's handler can run while the main thread waits for another one, not while it waits for a child.
        self._thread = threading.Thread(target=lambda: states.append(process.run()))
        self._thread.start()
        self._thread.join()
        if not states:
            sys.exit(f"{self.job.label}: how it fares could not be stored in {self.folder}")
        if states[0].outcome == "stopped":
            self._wait_again(sweep)
            _requeue_alone(sweep)
            sys.exit(128 + signal.SIGTERM)
        if states[0].failures:
            sys.exit("\n".join(f"{method}: {line}" for method, line in states[0].failures.items()))

    def checkpoint(self) -> DelayedSubmission:
        """What submitit stores before it requeues the task: once the images in hand are stored, the same again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._thread is not None:
            self._process.stop(signal.SIGUSR1)
            self._thread.join()
        self._wait_again(SweepFolder(place(self.folder)))
        return DelayedSubmission(RunTask(self.folder, self.job, self.log, self.device))

    def _wait_again(self, sweep: SweepFolder) -> None:
        sweep.write_state(self.job, replace(sweep.state(self.job), outcome="waiting"))

    def _terminated(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signals call it
        """The task is preempted, requeued, cancelled, or only told to end."""
        if self._process is not None:
            self._process.stop()


def _requeue_alone(sweep: SweepFolder) -> None:
    """Requeue a task that a signal ended and nothing else: what SLURM preempts, requeues or cancels runs no more."""
    if sweep.read().cancelled:
        return
    raw = os.environ["SLURM_JOB_ID"]
    states = subprocess.run(["squeue", "-h", "-j", raw, "-o", "%T"], capture_output=True, text=True).stdout.split()
    if states == ["RUNNING"]:
        subprocess.run(["scontrol", "requeue", raw], check=False)


def submit(sweep: SweepFolder, jobs: Sequence[JobRecord], device: str, chosen: SlurmOptions) -> str:
    """Submit jobs as one array; its number.

    Raises:
        UserError: submitit or SLURM is not there, or SLURM refuses the job.
    """
    submitit = _submitit()
    logs = Path(sweep.read().logs).absolute()
    try:
        executor = submitit.SlurmExecutor(folder=logs / "slurm", max_num_timeout=MOST_TIMEOUTS)
    except RuntimeError as error:
        raise UserError("there is no SLURM here", "submit from a login node, or leave --executor out") from error
    executor.update_parameters(
        job_name=f"segscale-{sweep.folder.name}",
        partition=chosen.partition,
        gres=chosen.gres,
        time=chosen.time,
        array_parallelism=chosen.array_parallelism,
        signal_delay_s=LIMIT_SECONDS,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **({"mem": chosen.mem} if chosen.mem else {})},
    )
    folder = str(sweep.folder.absolute())
    tasks = [RunTask(folder, job, str(logs / f"{job.key}.log"), device) for job in jobs]
    sweep.reset(jobs)
    try:
        submitted = executor.submit_array(tasks)
    except submitit.core.utils.FailedJobError as error:
        raise _refusal(str(error)) from error
    number = submitted[0].job_id.partition("_")[0]
    record = sweep.read()
    sweep.write(replace(record, slurm_jobs=(*record.slurm_jobs, number)))
    return number


def cancel(sweep: SweepFolder) -> tuple[str, ...]:
    """End every array job of a sweep; their numbers. Raises UserError where it has none, or SLURM refuses."""
    record = sweep.read()
    if not record.slurm_jobs:
        raise UserError(f"{sweep.folder.name} does not run on SLURM", "end it where it runs, by Ctrl-C")
    sweep.write(replace(record, cancelled=True))
    try:
        subprocess.run(["scancel", *record.slurm_jobs], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        sweep.write(record)
        raise _refusal(error.stderr) from error
    except OSError as error:
        sweep.write(record)
        raise UserError("there is no SLURM here", "cancel from a login node") from error
    return record.slurm_jobs


def _submitit() -> Any:
    """The package, which is an extra."""
    try:
        return importlib.import_module("submitit")
    except ModuleNotFoundError as error:
        raise UserError("submitit is not installed", EXTRA) from error


def _refusal(answer: str) -> UserError:
    lines = [line.strip() for line in answer.splitlines() if "error:" in line]
    problem = lines[0] if lines else answer.strip().partition("\n")[0]
    return UserError(f"SLURM refuses: {problem}", "see: sinfo, and --partition, --gres, --time and --mem")
