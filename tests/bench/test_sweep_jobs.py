"""How jobs of a sweep are run, each as a process of its own, and what is known of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from segscale.bench.sweeps.job_process import JobProcess
from segscale.bench.sweeps.local import LocalExecutor
from segscale.bench.sweeps.record import CellRecord, JobRecord, JobState, SweepFolder, SweepRecord, last_line
from segscale.bench.sweeps.slurm import cancel
from segscale.errors import UserError

from ..conftest import interruptible


class Script(JobProcess):
    """A job whose command is a Python script instead."""

    def _words(self, methods: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", *self.job.command, *methods]


def sweep_of(results: Path, scripts: dict[str, str], methods: tuple[str, ...] = ("m",)) -> SweepFolder:
    cells = tuple(CellRecord(method, f"runs/b/{method}/d/none") for method in methods)
    jobs = tuple(JobRecord(key, f"job {key}", (script,), cells, 1) for key, script in scripts.items())
    folder = SweepFolder.of(results, "scripts", [*scripts])
    folder.write(SweepRecord("scripts", jobs, logs=str(results / "logs")))
    return folder


@pytest.mark.parametrize(
    ("script", "outcome", "line"),
    [
        ("pass", "done", None),
        (
            "print('segscale: error: no weights; fetch them'); print('later'); raise SystemExit(2)",
            "failed",
            "no weights; fetch them",
        ),
        ("raise ValueError('deep')", "failed", "ValueError: deep"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed", "ended by SIGKILL, as where memory"),
        ("import sys; sys.exit(143)", "stopped", None),
        ("import sys; sys.exit(138)", "stopped", None),
    ],
)
def test_how_a_command_ends_is_how_its_job_fares(script: str, outcome: str, line: str | None, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"only": script})
    (job,) = sweep.read().jobs
    state = Script(sweep, job, tmp_path / "logs" / "only.log").run()
    assert state.outcome == outcome
    assert [value[: len(line or "")] for value in state.failures.values()] == ([line] if line else [])
    assert sweep.state(job) == state


def test_the_line_of_an_earlier_attempt_is_not_told_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    script = f"import sys, pathlib; p = pathlib.Path({str(flag)!r}); sys.exit('old' if not p.exists() else 'new')"
    sweep = sweep_of(tmp_path, {"only": script})
    (job,) = sweep.read().jobs
    first = Script(sweep, job, tmp_path / "log").run()
    flag.touch()
    second = Script(sweep, job, tmp_path / "log").run()
    assert (first.failures, second.failures) == ({"m": "old"}, {"m": "new"})
    assert (first.attempts, second.attempts) == (1, 2)


def test_jobs_that_are_run_again_wait_for_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of them before is no longer so; the one that runs sees it."""
    monkeypatch.setattr("segscale.bench.sweeps.local.JobProcess", Script)
    state = "import pathlib; print(pathlib.Path({path!r}).read_text()); raise SystemExit(2)"
    later = SweepFolder.of(tmp_path, "scripts", ["first", "later"]).folder / "jobs" / "later.json"
    sweep = sweep_of(tmp_path, {"first": state.format(path=str(later)), "later": "raise ValueError('old')"})
    jobs = sweep.read().jobs
    sweep.write_state(jobs[1], JobState("failed", {"m": "old"}, attempts=1))
    LocalExecutor(sweep, tmp_path / "logs", ("cpu",)).run(jobs)
    seen = TypeAdapter(JobState).validate_json((tmp_path / "logs" / "first.log").read_text())
    assert seen == JobState("waiting", attempts=1)
    assert sweep.state(jobs[1]).attempts == 2


def test_devices_share_the_jobs_and_none_waits_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job waits until all others are done, which the second device does alone."""
    monkeypatch.setattr("segscale.bench.sweeps.local.JobProcess", Script)
    done = "import pathlib, time\nhere = pathlib.Path({folder!r})\n"
    wait = done + "while len(list(here.glob('short-*'))) < 3: time.sleep(0.01)"
    short = done + "(here / 'short-{number}').touch()"
    scripts = {"long": wait.format(folder=str(tmp_path))}
    scripts |= {str(number): short.format(folder=str(tmp_path), number=number) for number in range(3)}
    sweep = sweep_of(tmp_path, scripts)
    jobs = sweep.read().jobs
    LocalExecutor(sweep, tmp_path / "logs", ("first", "second")).run(jobs)
    states = {job.key: sweep.state(job) for job in jobs}
    assert {state.outcome for state in states.values()} == {"done"}
    others = {states[str(number)].device for number in range(3)}
    assert len(others) == 1
    assert others | {states["long"].device} == {"first", "second"}


SWEEP = """
import sys
from pathlib import Path
from segscale.bench.commands.termination import terminable
from segscale.bench.sweeps import local
from segscale.bench.sweeps.record import SweepFolder
local.JobProcess._words = lambda self, methods: [sys.executable, "-c", *self.job.command]
sweep = SweepFolder(Path({folder!r}))
with terminable():
    local.LocalExecutor(sweep, Path({logs!r}), ("one", "two")).run(sweep.read().jobs)
"""
CHILD = """
import pathlib, signal, sys, time
def end(number, _):
    pathlib.Path({folder!r}, signal.Signals(number).name + "-" + {name!r}).touch()
    time.sleep(0.5)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
pathlib.Path({folder!r}, "began-" + {name!r}).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_once(
    number: signal.Signals, send: Callable[[int, int], None], tmp_path: Path
) -> None:
    """Ctrl-C in a terminal reaches every process of the group."""
    names = ("a", "b", "c")
    sweep = sweep_of(tmp_path, {name: CHILD.format(folder=str(tmp_path), name=name) for name in names})
    code = SWEEP.format(folder=str(sweep.folder), logs=str(tmp_path / "logs"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, preexec_fn=interruptible, process_group=0
    )
    while len(list(tmp_path.glob("began-*"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    send(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert sorted(path.name for path in tmp_path.glob("SIG*")) == ["SIGTERM-a", "SIGTERM-b"]
    assert [sweep.state(job).outcome for job in sweep.read().jobs] == ["stopped", "stopped", "waiting"]


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", "it said nothing"),
        ("  10%\r 20%\r\nsegscale: error: bad; do this\n", "bad; do this"),
        ("segscale: error: bad\nsegscale: later\n", "bad"),
        ("Traceback\n  File\nKeyError: 'x'\n\n", "KeyError: 'x'"),
    ],
)
def test_the_line_of_a_log(log: str, line: str) -> None:
    assert last_line(log) == line


def test_what_could_not_be_cancelled_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sweep = SweepFolder.of(tmp_path, "papers", ())
    sweep.write(SweepRecord("papers", (), slurm_jobs=("7",)))
    with pytest.raises(UserError, match="there is no SLURM here"):
        cancel(sweep)
    assert not sweep.read().cancelled


def test_all_arrays_of_a_sweep_are_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was submitted, planned anew and submitted again; the first array may still run."""
    sweep = SweepFolder.of(tmp_path, "papers", ())
    for number in ("7", "9"):
        sweep.plan(SweepRecord("papers", ()))
        sweep.write(replace(sweep.read(), slurm_jobs=(*sweep.read().slurm_jobs, number)))
    sweep.plan(SweepRecord("papers", ()))
    scancel = tmp_path / "scancel"
    scancel.write_text(f"#!/bin/sh\necho $* > {tmp_path}/cancelled\n")
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cancel(sweep) == ("7", "9")
    assert (tmp_path / "cancelled").read_text() == "7 9\n"
