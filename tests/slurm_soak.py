"""A sweep on a SLURM of one node, preempted, cancelled and out of disk, until it is complete: ``make soak-slurm``.

Every cell must be that of a local run, but for the backbone whose weights vanish after the plan, which must be named.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from segscale.backbones.loading.pretrained import resolve_weights
from segscale.bench.runs.leases import read_leases
from segscale.bench.sweeps.record import find_sweeps

from .slurm import segscale
from .slurm_cluster import Cluster, cluster, missing
from .soak import Stored, stored, twice

SEED = int(os.environ.get("SEED", "0"))
PREEMPTIONS = int(os.environ.get("PREEMPTIONS", "20"))
CANCELS = 2
BACKBONES = ("pocket-sd15", "pocket-sd3", "pocket-sdxl", "pocket-pixart-sigma", "pocket-flux")
IMAGES = 120
BROKEN = "broken"
DISK_BYTES = 64 * 2**20
PATIENCE = 4.0
"""So many seconds a command to SLURM may take."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Cluster]:
    if absent := missing():
        pytest.skip(absent)
    with cluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of a backbone of its own, which are whole when the sweep is planned."""
    weights, configs = tmp_path / "weights", tmp_path / "configs"
    shutil.copytree(resolve_weights("pocket:pocket-sd15"), weights)
    (configs / "backbones").mkdir(parents=True)
    base = '"""It breaks."""\n_base_ = "segscale::backbones/pocket-sd15.py"\n'
    (configs / "backbones" / f"{BROKEN}.py").write_text(f"{base}weights = {str(weights)!r}\n")
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(configs))
    return weights


class Soak:
    """A sweep that is submitted until all its cells but the broken ones are complete."""

    def __init__(self, slurm: Cluster, results: Path) -> None:
        self.slurm, self.results = slurm, results
        self.generator = random.Random(SEED)
        self.preemptions = self.cancelled = self.submissions = 0
        self.disk_was_full = False

    def submit(self) -> None:
        names = ",".join((*BACKBONES, BROKEN))
        words = ("--backbone", names, "--method", "vanilla,goca", "--limit", str(IMAGES), "--time", "60")
        segscale("sweep", *words, "--executor", "slurm", "--array-parallelism", "2", "--results", str(self.results))
        (self.sweep,) = find_sweeps(self.results)
        self.number = self.sweep.read().slurm_jobs[-1]
        self.submissions += 1

    def disturb(self) -> None:
        """Until no task of this submission runs or waits."""
        while self.tasks("PENDING", "RUNNING", "COMPLETING"):
            time.sleep(self.generator.uniform(0, 1))
            running = self.tasks("RUNNING")
            if not running or not any(lease.claimed for lease in read_leases(self.results)):
                continue
            task = self.generator.choice(running)
            if self.preemptions >= PREEMPTIONS // 2 and not self.disk_was_full:
                self.fill_the_disk()
            elif self.preemptions >= PREEMPTIONS // 4 and self.cancelled < CANCELS:
                self.slurm.run("scancel", task)
                self.cancelled += 1
            elif self.preemptions < PREEMPTIONS:
                self.preempt(task)

    def preempt(self, task: str) -> None:
        command = self.generator.choice(
            [("scontrol", "requeue"), ("scancel", "--signal", "USR1"), ("scancel", "--signal", "TERM")]
        )
        with suppress(subprocess.TimeoutExpired):  # scancel tries again where the task has just stopped running
            told = subprocess.run([*command, task], capture_output=True, env=self.slurm.environment, timeout=PATIENCE)
            self.preemptions += told.returncode == 0

    def fill_the_disk(self) -> None:
        """Until a job has failed by it, or all have ended."""
        failed = self.tasks("FAILED")
        ballast = self.results.parent / "ballast"
        with ballast.open("wb") as file:
            while True:
                try:
                    file.write(b"0" * 2**16)
                    file.flush()
                except OSError:
                    break
        self.slurm.wait_for(
            lambda: self.tasks("FAILED") != failed or not self.tasks("RUNNING"), "a full disk to be noticed"
        )
        ballast.unlink()
        self.disk_was_full = True

    def tasks(self, *states: str) -> list[str]:
        """As SLURM's commands name them; a job of one task is no array."""
        known = self.slurm.jobs(self.number).items()
        return [self.number if task == "N/A" else f"{self.number}_{task}" for task, state in known if state in states]

    def complete(self) -> bool:
        images = [len(images) for images in self.good().values()]
        return images == [IMAGES] * 2 * len(BACKBONES)

    def good(self) -> Stored:
        """What is stored of all runs but the broken ones, which begin and store nothing."""
        return {run: images for run, images in stored(self.results).items() if images}


def test_soak(slurm: Cluster, disk: Path, broken: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    local = tmp_path / "local"
    for backbone in BACKBONES:
        words = ("--backbone", backbone, "--method", "vanilla,goca", "--limit", str(IMAGES), "--results", str(local))
        segscale("run", *words)
    soak = Soak(slurm, disk / "results")
    soak.submit()
    for path in broken.rglob("*.safetensors"):
        path.unlink()
    soak.disturb()
    while not soak.complete() and soak.submissions < 10:
        soak.submit()
        soak.disturb()
    printed = segscale("status", "sweep", "--results", str(soak.results), status=1)
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"\n{soak.preemptions} preemptions, {soak.cancelled} cancelled jobs, full disk: {soak.disk_was_full}, "
        f"{soak.submissions} submissions, seed {SEED}, {seconds:.0f} s\n{printed}\n"
    )
    assert soak.good() == stored(local)
    assert twice(soak.results) == []
    assert (soak.preemptions, soak.cancelled, soak.disk_was_full) == (PREEMPTIONS, CANCELS, True)
    failed = [line for line in printed.splitlines() if line.startswith("failed")]
    assert len(failed) == 2
    assert all(BROKEN in line and "safetensors" in line for line in failed)
    assert f"{2 * len(BACKBONES)} done" in printed
