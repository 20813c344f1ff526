"""How runs and sweeps are said to fare, by what is stored."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.bench.runs.leases import HeldLease
from segscale.bench.runs.store import RunStore
from segscale.bench.sweeps.progress import stored_images
from segscale.bench.sweeps.record import CellRecord, JobRecord, JobState, SweepFolder, SweepRecord, named_sweep
from segscale.bench.sweeps.status import START_SECONDS, RunStatus, status_text, statuses
from segscale.errors import UserError

from .stored_runs import PLAN, new_run, record

LABEL = "b x m on d val (p)"


def stored(results: Path, images: str, seed: int = 0) -> RunStore:
    """A run that is asked for three images."""
    plan = replace(PLAN, seed=seed)
    store = RunStore(results / "runs/b/m/d" / plan.run_id)
    store.start(replace(new_run(plan), wanted=3), [*"abc"])
    for image in images:
        store.append([record(image)])
    return store


def sweep(results: Path, *cells: CellRecord, images: int = 3, **fields: object) -> tuple[SweepFolder, JobRecord]:
    job = JobRecord("key", "b on d (p)", ("run",), cells, images)
    folder = SweepFolder.of(results, "name", ["run", str(images)])
    folder.write(SweepRecord("name", (job,), **fields))  # pyright: ignore[reportArgumentType]
    return folder, job


def below(store: RunStore, results: Path) -> str:
    return str(store.folder.relative_to(results))


def test_a_run_is_done_stopped_or_left_out_in_part(tmp_path: Path) -> None:
    stored(tmp_path, "abc")
    stored(tmp_path, "ab", seed=1)
    stored(tmp_path, "ab", seed=2).skip({"c": "it is damaged"})
    known = {run.label: (run.outcome, run.stored, run.wanted) for run in statuses(tmp_path)}
    assert known == {
        LABEL: ("done", 3, 3),
        "b x m on d val (p, seed 1)": ("stopped", 2, 3),
        "b x m on d val (p, seed 2)": ("done", 2, 3),
    }


def test_what_was_left_out_and_stored_since_counts_once(tmp_path: Path) -> None:
    store = stored(tmp_path, "a")
    RunStore(store.folder, rank=1).skip({"b": "it is damaged"})
    store.append([record("b")])
    (run,) = statuses(tmp_path)
    assert (run.outcome, run.stored, run.wanted) == ("stopped", 2, 3)


def test_a_run_at_work_has_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, "a")
    with HeldLease(tmp_path, [store.folder.name]) as lease:
        now = time.time()
        store.append([record("b")])
        monkeypatch.setattr("segscale.bench.sweeps.status.time.time", lambda: now + 30)
        (run,) = statuses(tmp_path)
    assert run.outcome == "running"
    assert run.seconds_left == pytest.approx(30, rel=0.1)
    assert f"pid {os.getpid()}" in run.line
    assert lease.path.exists() is False
    assert statuses(tmp_path)[0].outcome == "stopped"


def test_cells_of_a_sweep_wait_fail_and_are_refused(tmp_path: Path) -> None:
    store = stored(tmp_path, "ab")
    cells = (
        CellRecord("m", below(store, tmp_path)),
        CellRecord("other", "runs/b/other/d/none"),
        CellRecord("unfit", problem="it does not fit"),
    )
    folder, job = sweep(tmp_path, *cells)

    def outcomes() -> list[tuple[str, str]]:
        return [(run.outcome, run.line) for run in statuses(tmp_path)]

    refused = ("failed", "it does not fit")
    assert outcomes() == [("waiting", ""), ("waiting", ""), refused]
    folder.write_state(job, JobState("running", since=time.time()))
    assert outcomes() == [("running", ""), ("running", ""), refused]
    folder.write_state(job, JobState("running", since=time.time() - START_SECONDS - 1))
    assert outcomes() == [("stopped", ""), ("stopped", ""), refused]
    folder.write_state(job, JobState("failed", failures={"other": "no answer"}))
    assert outcomes() == [("failed", ""), ("failed", "no answer"), refused]
    store.append([record("c")])
    assert outcomes() == [("done", ""), ("failed", "no answer"), refused]


def test_a_cancelled_sweep_waits_for_nothing(tmp_path: Path) -> None:
    folder, _ = sweep(tmp_path, CellRecord("m", "runs/b/m/d/none"), slurm_jobs=("7", "9"), cancelled=True)
    assert [run.outcome for run in statuses(tmp_path)] == ["stopped"]
    assert f"sweep {folder.folder.name}, on SLURM: job 7, 9" in status_text([], [folder]).splitlines()


def test_a_run_of_two_sweeps_is_told_for_each_number_of_images_that_it_lacks(tmp_path: Path) -> None:
    store = stored(tmp_path, "a")
    cell = CellRecord("m", below(store, tmp_path))
    two, job_of_two = sweep(tmp_path, cell, images=2)
    three, job_of_three = sweep(tmp_path, cell, images=3)
    three.write_state(job_of_three, JobState("stopped", since=1.0))
    two.write_state(job_of_two, JobState("failed", {"m": "no answer"}, since=2.0))

    def told(*sweeps: SweepFolder) -> list[tuple[str, int, int]]:
        return sorted((run.outcome, run.stored, run.wanted) for run in statuses(tmp_path, sweeps or None))

    assert told() == [("failed", 1, 2), ("stopped", 1, 3)]
    store.append([record("b")])
    assert told() == [("stopped", 2, 3)]
    assert (told(two), told(three)) == ([("done", 2, 2)], [("stopped", 2, 3)])
    store.append([record("c")])
    assert told() == [("done", 3, 3)]


def test_the_same_images_of_two_sweeps_are_told_as_by_the_later_one(tmp_path: Path) -> None:
    """Their run is not there yet; the folder of the earlier one comes last by name."""
    cell = CellRecord("m", "runs/b/m/d/none")
    jobs = {name: JobRecord("key", "b on d (p)", ("run",), (cell,), 3) for name in ("early", "late")}
    for begin, (name, folder) in enumerate({"late": "a", "early": "b"}.items()):
        each = SweepFolder.of(tmp_path, folder, [name])
        each.write(SweepRecord(name, (jobs[name],)))
        each.write_state(jobs[name], JobState("failed", {"m": name}, since=2.0 - begin))
    assert [(run.outcome, run.line) for run in statuses(tmp_path)] == [("failed", "late")]


def test_a_part_that_is_no_part_is_not_counted(tmp_path: Path) -> None:
    store = stored(tmp_path, "ab")
    (store.parts / "0-000009.parquet").write_bytes(b"PAR1 nothing")
    assert statuses(tmp_path)[0].stored == 2
    assert (store.parts / "0-000009.parquet").exists(), "only what reads images sets parts aside"


def test_merged_parts_are_counted_without_a_look_into_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, "abc")
    store.compact()
    monkeypatch.setattr("segscale.bench.runs.parts.pq.ParquetFile", lambda path: pytest.fail("a part was opened"))
    assert statuses(tmp_path)[0].stored == 3


def test_an_image_in_two_parts_makes_no_run_done(tmp_path: Path) -> None:
    store = stored(tmp_path, "ab")
    store.compact()
    store.append([record("a")])
    _, job = sweep(tmp_path, CellRecord("m", below(store, tmp_path)))
    assert [(run.outcome, run.stored) for run in statuses(tmp_path)] == [("waiting", 2)]
    assert stored_images(tmp_path, job) == 2


def test_the_command_prints_it_and_its_status_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path, "abc")
    main(["status", "--results", str(tmp_path)])
    assert capsys.readouterr().out == "1 runs: 1 done\n"
    sweep(tmp_path, CellRecord("unfit", problem="it does not fit"))
    with pytest.raises(SystemExit) as ended:
        main(["status", "--watch", "--results", str(tmp_path)])
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert out.startswith("2 runs: 1 failed, 1 done\nsweep name-")
    assert "failed   b on d (p) x unfit  0 of 3            it does not fit" in out
    with pytest.raises(SystemExit):
        main(["status", "nam", "--results", str(tmp_path)])
    assert capsys.readouterr().out.startswith("1 runs: 1 failed\n")


def test_a_sweep_is_found_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    folder, _ = sweep(tmp_path)
    assert named_sweep(tmp_path, "na").folder == folder.folder
    with pytest.raises(UserError, match=f"0 sweeps of .* begin with 'other'; name one of: {folder.folder.name}"):
        named_sweep(tmp_path, "other")


def test_many_lines_of_one_state_are_counted() -> None:
    runs = [RunStatus(str(number), "waiting", 0, 3) for number in range(1000)]
    text = status_text(runs, [])
    assert "1,000 runs: 1,000 waiting" in text
    assert "and 970 more" in text
    assert len(text.splitlines()) < 40


def test_a_run_whose_record_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(tmp_path, "ab")
    record = store.folder / "run.json"
    record.write_bytes(record.read_bytes()[:200])
    (run,) = statuses(tmp_path)
    assert (run.label, run.outcome) == (below(store, tmp_path), "failed")
    with pytest.raises(SystemExit) as ended:
        main(["status", "--results", str(tmp_path)])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "run.json is not of format" in printed
    assert "give the command that made it again: its images are kept" in printed


def test_a_damaged_plan_is_one_line(tmp_path: Path) -> None:
    folder, _ = sweep(tmp_path)
    (folder.folder / "sweep.json").write_text(json.dumps({"name": 3}))
    with pytest.raises(UserError, match=r"sweep.json cannot be read; remove .*; the runs stay"):
        statuses(tmp_path)
