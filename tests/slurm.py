"""Sweeps on a SLURM of one node: ``make test-slurm``. Ordinary tests need none and pass this over."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.bench.runs.leases import read_leases
from segscale.bench.runs.store import find_runs
from segscale.bench.sweeps.record import JobState, SweepFolder, find_sweeps

from .slurm_cluster import Cluster, cluster, missing
from .soak import stored, twice

IMAGES = 150
CELLS = ("--backbone", "pocket-sd15", "--method", "vanilla,goca", "--limit", str(IMAGES))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if absent := missing():
        pytest.skip(absent)
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def segscale(*words: str, status: int = 0) -> str:
    """What a command prints, in this process, which loads the libraries of models once."""
    printed, ended = io.StringIO(), 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            main(words)
        except SystemExit as end:
            ended = end.code or 0
    assert ended == status, printed.getvalue()
    return printed.getvalue()


def submitted(results: Path, *words: str) -> tuple[SweepFolder, str]:
    """A sweep, and the number of its job."""
    segscale("sweep", *words, "--executor", "slurm", "--time", "30", "--results", str(results))
    (sweep,) = find_sweeps(results)
    return sweep, sweep.read().slurm_jobs[-1]


def only_state(sweep: SweepFolder) -> JobState:
    (job,) = sweep.read().jobs
    return sweep.state(job)


def images(results: Path) -> int:
    return sum(store.count() for store in find_runs(results)) if (results / "runs").is_dir() else 0


class Watched:
    """A sweep of one job on the cluster, whose images are counted between preemptions."""

    def __init__(self, slurm: Cluster, results: Path) -> None:
        self.slurm, self.results = slurm, results
        self.sweep, self.number = submitted(results, *CELLS)

    def computes(self, attempt: int) -> None:
        """Until this attempt has an image in hand: the first is claimed alone, to see how long it takes.

        Args:
            attempt: Counted from 1.
        """
        self.slurm.wait_for(
            lambda: self.ended() or any(len(lease.claimed) > 1 for lease in read_leases(self.results)),
            f"attempt {attempt} to compute",
        )
        assert not self.ended(), "raise IMAGES: the job ended before it was preempted"
        assert only_state(self.sweep).attempts == attempt

    def waits(self) -> int:
        """Until the task is requeued; how many images are stored."""
        self.slurm.wait_for(lambda: self.state() == "PENDING", "the task to be requeued")
        assert only_state(self.sweep).outcome == "waiting"
        assert read_leases(self.results) == []
        return images(self.results)

    def state(self) -> str | None:
        return self.slurm.jobs(self.number).get("N/A")

    def ended(self) -> bool:
        return self.state() in ("COMPLETED", "FAILED", "CANCELLED")


def requeued_from_a_drained_node(slurm: Cluster, job: Watched) -> int:
    """The job waits until the node takes jobs again."""
    with slurm.drained():
        slurm.run("scontrol", "requeue", job.number)
        kept = job.waits()
        slurm.wait_for(lambda: "BeginTime" not in slurm.reasons(job.number), "the job to be due")
        assert job.state() == "PENDING"
        assert images(job.results) == kept
    return kept


def told_by_usr1(slurm: Cluster, job: Watched) -> int:
    slurm.run("scancel", "--signal", "USR1", job.number)
    return job.waits()


def told_by_term(slurm: Cluster, job: Watched) -> int:
    slurm.run("scancel", "--signal", "TERM", job.number)
    return job.waits()


def pushed_out_by_a_higher_partition(slurm: Cluster, job: Watched) -> int:
    cores = str(os.cpu_count())
    intruder = slurm.run("sbatch", "--parsable", "-p", "high", "-n", cores, "-o", "/dev/null", "--wrap", "sleep 300")
    kept = job.waits()
    slurm.run("scancel", intruder.strip())
    return kept


def test_preempted_four_times_a_sweep_is_that_of_a_local_run(slurm: Cluster, tmp_path: Path) -> None:
    segscale("run", *CELLS, "--results", str(tmp_path / "local"))
    job = Watched(slurm, tmp_path / "slurm")
    preemptions = (requeued_from_a_drained_node, told_by_usr1, told_by_term, pushed_out_by_a_higher_partition)
    kept = 0
    for attempt, preempt in enumerate(preemptions, 1):
        job.computes(attempt)
        now = preempt(slurm, job)
        assert now > kept
        kept = now
    slurm.wait_for(job.ended, "the job to end")
    state = only_state(job.sweep)
    assert (state.outcome, state.attempts) == ("done", 5), Path(state.log).read_text()
    assert stored(tmp_path / "slurm") == stored(tmp_path / "local")
    assert twice(tmp_path / "slurm") == []
    assert "2 runs: 2 done" in segscale("status", "--results", str(tmp_path / "slurm"))


def test_a_cancelled_sweep_ends_with_every_array_of_it(slurm: Cluster, tmp_path: Path) -> None:
    """It is submitted again while it runs, where no node is free."""
    job = Watched(slurm, tmp_path)
    job.computes(1)
    with slurm.drained():
        _, again = submitted(tmp_path, *CELLS)
        log = only_state(job.sweep).log
        assert log in segscale("status", "--results", str(tmp_path))
        printed = segscale("sweep", "--cancel", "sweep", "--results", str(tmp_path))
        assert f"cancelled on SLURM: job {job.number}, {again};" in printed
        slurm.wait_for(job.ended, "the job to end")
        assert slurm.jobs(again) == {"N/A": "CANCELLED"}
    slurm.wait_for(lambda: not read_leases(tmp_path), "the run to end")
    kept = images(tmp_path)
    assert 0 < kept < 2 * IMAGES
    assert "2 runs: 2 stopped" in segscale("status", "--results", str(tmp_path))
    assert "SIGTERM; what was computed is stored" in Path(log).read_text()


def test_a_bad_task_of_an_array_is_named_and_the_others_are_done(slurm: Cluster, tmp_path: Path) -> None:
    """A folder in the place of a run is found when the run starts, not when the sweep is planned."""
    words = ("--backbone", "pocket-sd15,pocket-sd3", "--method", "vanilla", "--limit", "2", "--results", str(tmp_path))
    segscale("sweep", *words, "--dry-run")
    (tmp_path / "runs" / "pocket-sd3").mkdir(parents=True)
    (tmp_path / "runs" / "pocket-sd3" / "vanilla").touch()
    sweep, number = submitted(tmp_path, *words[:-2])
    slurm.wait_for(lambda: {*slurm.jobs(number).values()} == {"COMPLETED", "FAILED"}, "both tasks to end")
    assert sorted(slurm.jobs(number)) == ["0", "1"]
    printed = segscale("status", sweep.folder.name, "--results", str(tmp_path), status=1)
    assert "2 runs: 1 failed, 1 done" in printed
    assert "cannot be written (Not a directory)" in printed


def test_what_slurm_refuses_is_one_line(slurm: Cluster, tmp_path: Path) -> None:
    words = ("--limit", "2", "--executor", "slurm", "--partition", "none", "--results", str(tmp_path))
    printed = segscale("sweep", "--backbone", "pocket-sd15", "--method", "vanilla", *words, status=2)
    line = printed.splitlines()[-1]
    assert line.startswith("segscale: error: SLURM refuses: ")
    assert "invalid partition specified" in line
    assert line.endswith("see: sinfo, and --partition, --gres, --time and --mem")
