"""Runs one job as a child process, so that whatever ends it ends nothing else, and stores how it fares."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .record import JobRecord, JobState, SweepFolder, last_line

ENDED_BY = frozenset(128 + number for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))
"""Statuses of commands that were asked to end: nothing is wrong with their cells."""


class JobProcess:
    """One job, from its start to its end or to ``stop``."""

    def __init__(self, sweep: SweepFolder, job: JobRecord, log: Path, device: str | None = None) -> None:
        """Name the job, the file that its output is added to, and the device where the command names another."""
        self.sweep, self.job, self.log = sweep, job, log
        self.device = device
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.RLock()  # a signal's handler may come while it is held

    def run(self) -> JobState:
        """Run the job. A job of several methods that fails is run again method by method, to find which are bad."""
        methods = tuple(cell.method for cell in self.job.cells if not cell.problem)
        before = self.sweep.state(self.job)
        state = JobState(
            "running",
            log=str(self.log),
            host=platform.node(),
            device=self.device or "",
            since=time.time(),
            attempts=before.attempts + 1,
        )
        self.sweep.write_state(self.job, state)
        problem = self._attempt(methods)
        failures = {} if problem is None else dict.fromkeys(methods, problem)
        if problem is not None and len(methods) > 1:
            alone = {method: self._attempt((method,)) for method in methods}
            failures = {method: line for method, line in alone.items() if line is not None}
        outcome = "stopped" if self._stopping.is_set() else "failed" if failures else "done"
        state = replace(state, outcome=outcome, failures={} if outcome == "stopped" else failures)
        self.sweep.write_state(self.job, state)
        return state

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the command to store what it has and to end."""
        with self._lock:
            self._stopping.set()
            if self._child is not None and self._child.poll() is None:
                self._child.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Until the command that was asked to end has ended; then, or after so many seconds, kill what is left."""
        child = self._child
        if child is None:
            return
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _attempt(self, methods: Sequence[str]) -> str | None:
        """Run the command for some of the methods; the line in which it failed, None where it did not."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            begins = log.tell()
            with self._lock:
                if self._stopping.is_set():
                    return None
                # In a group of its own, so that Ctrl-C reaches it once, by ``stop``, and cannot disturb what it stores.
                self._child = subprocess.Popen(
                    self._words(methods),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(),
                    process_group=0,
                )
            status = self._child.wait()
        if status == 0:
            return None
        if status in ENDED_BY or self._stopping.is_set():
            self._stopping.set()
            return None
        if status < 0:
            return f"ended by {signal.Signals(-status).name}, as where memory runs out"
        with self.log.open("rb") as log:
            log.seek(begins)
            return last_line(log.read().decode(errors="replace"))

    def _words(self, methods: Sequence[str]) -> list[str]:
        words = list(self.job.command)
        words[words.index("--method") + 1] = ",".join(methods)
        device = [] if self.device is None else ["--device", self.device]
        return [sys.executable, "-m", "segscale", *words, *device]


def _environment() -> dict[str, str]:
    """The own one, in which Python finds the package where it was found here, and bars keep their width in a log."""
    return os.environ | {"PYTHONUNBUFFERED": "1"}
