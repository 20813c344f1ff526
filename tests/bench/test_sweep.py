"""What a sweep plans, and what becomes of its jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from segscale.backbones.loading.options import LoadOptions
from segscale.bench.commands import run as run_commands
from segscale.bench.commands.main import main
from segscale.bench.report.published import comparable, read_published
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.runs.store import find_runs
from segscale.bench.sweeps import capacity
from segscale.bench.sweeps.command_line import SweepOptions, run_command
from segscale.bench.sweeps.forwards import Forwards, count_forwards
from segscale.bench.sweeps.job_process import JobProcess
from segscale.bench.sweeps.local import LocalExecutor
from segscale.bench.sweeps.plan import Planner
from segscale.bench.sweeps.record import CellRecord, JobRecord, JobState, SweepFolder, SweepRecord, last_line
from segscale.bench.sweeps.slurm import cancel
from segscale.bench.sweeps.sweep import Job, Product, jobs_of
from segscale.catalogue import shipped_folder
from segscale.errors import ConfigError, UserError
from segscale.registry import build

from ..conftest import interruptible

FAILING = '''
from dataclasses import dataclass
from segscale.methods.goca import GoCA
from segscale.registry import METHODS

@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Failing(GoCA):
    """GoCA that has no answer."""

    def __call__(self, maps):
        raise ValueError("no answer")
'''


def test_the_papers_sweep_is_every_published_cell_that_can_be_run_here() -> None:
    published = comparable(read_published(shipped_folder("results") / "paper.csv"))
    columns = ["backbone", "dataset", "protocol", "method"]
    cells = [
        (job.backbone_name, job.dataset_name, job.protocol_name, method)
        for job in jobs_of(build("sweep", "papers").products)
        for method in job.method_names or ()
    ]
    assert sorted(cells) == sorted(map(tuple, published[columns].to_numpy().tolist()))


def test_what_shares_forwards_is_one_job() -> None:
    one, two = Product(("a", "b"), ("d",), ("p",), ("x",)), Product(("a",), ("d",), ("p", "q"), ("y", "x"), (0, 1))
    jobs = {job.key: job.method_names for job in jobs_of([one, two])}
    assert jobs == {
        "a-d-p-seed0": ("x", "y"),
        "b-d-p-seed0": ("x",),
        "a-d-p-seed1": ("y", "x"),
        "a-d-q-seed0": ("y", "x"),
        "a-d-q-seed1": ("y", "x"),
    }
    assert jobs_of([one, Product(("a",), ("d",), ("p",))])[0].method_names is None


def test_names_choose_a_part_of_a_sweep() -> None:
    products = [each.only(backbones=("sd15", "sd3"), methods=None) for each in build("sweep", "papers").products]
    assert {job.backbone_name for job in jobs_of(products)} == {"sd15", "sd3"}
    assert [len(each.backbones) for each in products] == [1, 1, 1, 1, 1]


def test_a_product_without_a_chosen_method_has_no_job() -> None:
    """No method is not every method."""
    products = [each.only(methods=("baseline",)) for each in build("sweep", "papers").products]
    assert {(job.backbone_name, job.method_names) for job in jobs_of(products)} == {("sd15", ("baseline",))}


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


def test_a_choice_of_no_cell_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "papers", "--backbone", "pocket-sd15", "--results", str(tmp_path)])
    assert "no cell of sweep papers has all of these names; see " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backbones": ("pocket-sd15",), "datasets": ("pocket",)}, "needs protocols"),
        ({"backbones": ("pocket-sd51",)}, "needs datasets"),
        ({"backbone": ("pocket-sd15",)}, "takes no 'backbone'; did you mean backbones?"),
        ({"backbones": ("pocket-sd51",), "datasets": ("pocket",), "protocols": ("goca",)}, "did you mean pocket-sd15?"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line(fields: dict[str, tuple[str, ...]], problem: str) -> None:
    with pytest.raises(UserError, match=problem.replace("?", r"\?")):
        build("sweep", "papers", products=(fields,))


def test_a_sweep_without_products_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no products"):
        build("sweep", "papers", products=())


def test_the_command_of_a_job_asks_for_what_the_sweep_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every field of the options that differs from its default, as the command line reads it."""
    placed = ("model", "balanced", "quanto-int8", "lora-folder")
    load = LoadOptions("cpu", "float16", "bfloat16", "main", "fp16", True, *placed)
    options = RunOptions(
        weights="w",
        split="train",
        limit=3,
        save_masks=None,
        skip_bad=True,
        strict=True,
        batch=2,
        workers=1,
        text_cache=tmp_path / "cache",
        results=tmp_path / "results",
        load=load,
    )
    chosen = SweepOptions(options, {"pocket": "folder"}, {"pocket": str(tmp_path / "captions.json")})
    job = Job("pocket-sd15", "pocket", "standard", 5, ("vanilla", "goca"))
    seen: list[tuple[object, ...]] = []

    def look(*given: object) -> list[object]:
        seen.append(given)
        return []

    monkeypatch.setattr(run_commands, "_run_grid", look)
    main([*run_command(job, chosen.of(job)), "--device", "cpu"])
    ((grid, variants),) = seen
    expected = replace(options, seed=5, data_root="folder", captions=tmp_path / "captions.json")
    assert variants == [expected]
    assert vars(grid) == {
        "backbone_names": ("pocket-sd15",),
        "method_names": ("vanilla", "goca"),
        "dataset_names": ("pocket",),
        "protocol_names": ("standard",),
    }


def test_forwards_are_counted_as_a_run_takes_them(tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    task = build_task("pocket", build("protocol", "standard"), options)
    methods = build_methods(None, "pocket-sd15", task.protocol)
    stores = run_methods("pocket-sd15", methods, task, options)
    counts = [store.load(store.read()) for store in stores]
    counted = count_forwards(task, methods, [task.dataset[0], task.dataset[1]])
    assert counted.alone == sum(each.forwards.mean() for each in counts)
    assert {counted.shared} == {each.forwards_together.mean() for each in counts}
    assert counted.shared < counted.alone
    assert count_forwards(task, [], []) == Forwards(0, 0)


def plan(job: Job, results: Path, **data_roots: str) -> tuple[CellRecord, ...]:
    options = SweepOptions(RunOptions(limit=2, results=results), data_roots)
    return Planner(options, checks_memory=True).plan(job).record.cells


def test_what_cannot_run_is_refused_and_the_rest_is_planned(tmp_path: Path) -> None:
    cells = plan(Job("pocket-sd15", "pocket", "standard", 0, ("vanilla", "seg4diff-masks", "goca")), tmp_path)
    assert {cell.method: (bool(cell.run), cell.problem) for cell in cells} == {
        "vanilla": (True, ""),
        "goca": (True, ""),
        "seg4diff-masks": (
            False,
            "seg4diff-masks gives nameless masks, which protocol standard does not evaluate; see: segscale list",
        ),
    }


def test_both_missing_weights_and_a_missing_dataset_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = SweepOptions(
        RunOptions(results=tmp_path, load=LoadOptions(offline=True)), {"voc": str(tmp_path / "nothing")}
    )
    planned = Planner(options, checks_memory=True).plan(Job("sd15", "voc", "goca", 0, ("vanilla", "goca")))
    weights, data = planned.problems
    assert "is not in the cache" in weights
    assert str(tmp_path / "nothing") in data
    assert {cell.problem for cell in planned.record.cells} == {f"{weights} And: {data}"}
    assert planned.record.command == ()
    assert planned.asked[:4] == ("run", "--backbone", "sd15", "--method")


def test_weights_beyond_the_devices_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    full = capacity.weights_bytes("sd15", RunOptions())
    half = capacity.weights_bytes("sd15", RunOptions(load=LoadOptions(dtype="float16")))
    # 0.86 B parameters of the U-Net, 0.12 B of the text encoder, and the VAE, which stays in float32.
    assert 3.9e9 < full < 4.4e9
    assert 0.5 * full < half < 0.56 * full
    monkeypatch.setattr(capacity, "device_bytes", lambda device: half)
    capacity.check_memory("sd15", RunOptions(load=LoadOptions(dtype="float16")))
    with pytest.raises(UserError, match=r"the weights of sd15 take .* GiB in float32, cpu has .* --dtype float16"):
        capacity.check_memory("sd15", RunOptions())


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder, and a method ``failing`` that fails at its first image."""
    configs = tmp_path / "configs"
    (configs / "methods").mkdir(parents=True)
    (tmp_path / "failing_method.py").write_text(FAILING)
    base = '_base_ = "segscale::methods/goca.py"\ncustom_imports = dict(imports=["failing_method"])\n'
    (configs / "methods" / "failing.py").write_text(f'"""It fails."""\n{base}type = "Failing"\n')
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(configs))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "results"


def test_a_bad_cell_is_named_and_stops_no_other(failing: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--backbone", "pocket-sd15", "--method", "vanilla,failing", "--limit", "2", "--results", str(failing)]
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *words])
    assert ended.value.code == 1
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert "1 jobs, 2 cells (0 refused), 4 images, 2 forwards instead of 4; no stored run says how long" in out
    (failed,) = (line for line in lines if line.startswith("failed   pocket-sd15 x failing on pocket val (standard)"))
    assert "0 of 2" in failed
    assert "method failing" in failed
    assert "ValueError: no answer" in failed
    assert str(failing / "sweeps") in failed
    assert "2 runs: 1 failed, 1 done" in lines
    assert "failed   pocket-sd15 on pocket (standard): failing: " in err.replace("\r", "\n") + out
    assert sorted(len(store.done()) for store in find_runs(failing)) == [0, 2]


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
def end(*_):
    pathlib.Path({folder!r}, "stored-" + {name!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
pathlib.Path({folder!r}, "began-" + {name!r}).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_as_it_ends_a_run(number: signal.Signals, tmp_path: Path) -> None:
    names = ("a", "b", "c")
    sweep = sweep_of(tmp_path, {name: CHILD.format(folder=str(tmp_path), name=name) for name in names})
    code = SWEEP.format(folder=str(sweep.folder), logs=str(tmp_path / "logs"))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, preexec_fn=interruptible)
    while len(list(tmp_path.glob("began-*"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert sorted(path.name for path in tmp_path.glob("stored-*")) == ["stored-a", "stored-b"]
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
