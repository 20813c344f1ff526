"""Kills processes that share a run at random moments, until it is complete, and checks that nothing came of it.

``make soak`` runs the whole; a short form is a test. Areas must be those of an uninterrupted run, no image may be
stored twice, and a process that was asked to end must have stored all that it computed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from tqdm import tqdm

from segscale.bench.commands.main import main
from segscale.bench.runs import loop
from segscale.bench.runs.method_run import MethodRun
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.parts import COUNTS, ImageRecord
from segscale.bench.runs.plan import plan_backbone
from segscale.bench.runs.store import RunStore

IMAGES = 40
METHODS = ("vanilla", "goca")
COMMAND = ["run", "--backbone", "pocket-sd15", "--method", ",".join(METHODS), "--limit", str(IMAGES)]
WAYS = (("--workers", "0"), ("--workers", "0"), ("--workers", "1"), ("--workers", "2"))
"""Whether images are read ahead and counted behind; every process goes one way."""
FLUSHES = (0.0, 0.1, 0.5, 5.0)
"""Seconds between two flushes."""
MOST_PROCESSES = 8
COMPACTED = 0.25
"""Share of the runs whose parts are merged in the end."""
WARM = 0.8
"""Share of the attempts whose first kill waits until an image is computed; the others may fall into the start."""

Stored = dict[str, dict[str, tuple[bytes, ...]]]
"""By run and image, the bytes of its areas."""


@dataclass
class Tally:
    """What was done and what was seen."""

    kills: int = 0
    terms: int = 0
    runs: int = 0
    processes: int = 0
    most_processes: int = 0
    stored_after_term: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} SIGKILL and {self.terms} SIGTERM over {self.runs} runs and {self.processes} processes, "
            f"up to {self.most_processes} at once; {self.stored_after_term} computed images stored by terminated "
            f"processes; {len(self.problems)} problems"
        )


@dataclass(frozen=True)
class Process:
    """A child that runs the command."""

    pid: int
    computed: Path
    """Names every image that it computed, a line for each."""

    def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit status, negative for one that ended it."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def images(self) -> list[tuple[str, str]]:
        """Run and image of all that it computed."""
        lines = self.computed.read_text().splitlines() if self.computed.exists() else []
        return [(run, image) for run, image in (line.split() for line in lines)]


@dataclass(frozen=True)
class Way:
    """How a process runs the command."""

    flush: float
    """Seconds between two flushes."""
    options: tuple[str, ...] = ()
    compacts: bool = True


def start(results: Path, way: Way, rank: int | None, world: int) -> Process:
    """Fork a process that runs the command; ``rank`` is that of a launcher, None without one."""
    computed = results / f"computed-{time.monotonic_ns()}"
    pid = os.fork()
    if pid:
        return Process(pid, computed)
    try:
        if not way.compacts:
            RunStore.compact = lambda self: None
        _child(results, way, computed, {} if rank is None else {"RANK": str(rank), "WORLD_SIZE": str(world)})
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(70)  # a forked child never goes on with what its parent does


def _child(results: Path, way: Way, computed: Path, environment: dict[str, str]) -> None:
    os.environ |= environment
    silent = os.open(os.devnull, os.O_WRONLY)
    errors = os.open(results / f"errors-{os.getpid()}", os.O_CREAT | os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(errors, 2)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # Forked children share the lock of progress bars, and one that is killed while it draws would keep it.
    tqdm.set_lock(threading.RLock())
    loop.FLUSH_SECONDS = way.flush
    log = os.open(computed, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    keep = MethodRun.keep

    def logged(run: MethodRun, record: ImageRecord) -> None:
        keep(run, record)
        os.write(log, f"{run.store.folder.name} {record.image}\n".encode())

    MethodRun.keep = logged
    status = 0
    try:
        main([*COMMAND, *way.options, "--results", str(results)])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    os._exit(status)


def stored(results: Path) -> Stored:
    """The areas of all images."""
    content: Stored = {}
    for store in map(RunStore, results.glob("runs/*/*/*/*")):
        if not (store.folder / "run.json").exists():
            continue
        counts = store.load(store.read())
        rows = zip(counts.images, *(getattr(counts, name) for name in COUNTS), strict=True)
        content[store.folder.name] = {image: tuple(area.tobytes() for area in areas) for image, *areas in rows}
    return content


def _stored_images(results: Path) -> int:
    return sum(len(images) for images in stored(results).values())


def twice(results: Path) -> list[str]:
    """Images that are in more than one part of a run."""
    images = Counter(
        (path.parts[-3], image)
        for path in results.glob("runs/*/*/*/*/parts/*.parquet")
        for image in pq.read_table(path, columns=["image"])["image"].to_pylist()
    )
    return [f"{run} {image}" for (run, image), number in images.items() if number > 1]


class Soak:
    """Runs that are killed until so many kills and terms are done."""

    def __init__(self, folder: Path, seed: int, kills: int, terms: int) -> None:
        self.folder, self.generator = folder, random.Random(seed)
        signals = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
        self.generator.shuffle(signals)
        self.signals: list[signal.Signals] = signals
        self.tally = Tally()

    def __call__(self) -> Tally:
        plan_backbone("pocket-sd15", RunOptions()).load()  # so that every child has its libraries at once
        began = time.monotonic()
        process = start(self._new_results("uninterrupted"), Way(5.0), None, 1)
        if process.wait() != 0:
            raise SystemExit("the uninterrupted run failed")
        self.seconds = time.monotonic() - began
        self.expected = stored(self.folder / "uninterrupted")
        while self.signals and not self.tally.problems:
            self._one_run()
        return self.tally

    def _new_results(self, name: str) -> Path:
        results = self.folder / name
        results.mkdir(parents=True)
        return results

    def _one_run(self) -> None:
        """From nothing to complete, with kills between."""
        self.tally.runs += 1
        results = self._new_results(f"run-{self.tally.runs}")
        # Merged parts would hide an image that was stored twice; a merge that is killed leaves some until the next.
        self.compacts = self.generator.random() < COMPACTED
        while self.signals and _stored_images(results) < IMAGES * len(METHODS):
            self._attempt(results, self.generator.randint(1, MOST_PROCESSES), killed=True)
        self._attempt(results, self.generator.randint(1, 3), killed=False)
        if stored(results) != self.expected:
            self.tally.problems.append(f"{results}: other areas")
        self.tally.problems += [f"{results}: stored twice: {image}" for image in twice(results)]
        # What a killed process was writing goes after an hour, as everywhere.
        if left := [path for path in results.glob("runs/.leases/*/*") if path.suffix != ".tmp"]:
            self.tally.problems.append(f"{results}: left behind: {left}")
        if not self.tally.problems:
            shutil.rmtree(results)

    def _attempt(self, results: Path, number: int, killed: bool) -> None:
        """Processes that share the run by ranks or by leases; some are killed, the others end by themselves."""
        launched = self.generator.random() < 0.5
        ranks = list(range(number)) if launched else [None] * number
        processes = [start(results, self._way(), rank, number) for rank in ranks]
        self.tally.processes += number
        self.tally.most_processes = max(self.tally.most_processes, number)
        spared = self.generator.choice([0, 0, 1, number - 1])
        victims = self.generator.sample(processes, max(number - spared, 1)) if killed else []
        if victims and self.generator.random() < WARM:
            _wait_for_an_image(processes)
        for process in victims[: len(self.signals)]:
            time.sleep(self.generator.random() * self.seconds / len(victims))
            self._end(results, process, self.signals.pop())
            processes.remove(process)
        for process in processes:
            if (status := process.wait()) != 0:
                self.tally.problems.append(f"{results}: a process ended with {status}")

    def _way(self) -> Way:
        return Way(self.generator.choice(FLUSHES), self.generator.choice(WAYS), self.compacts)

    def _end(self, results: Path, process: Process, number: signal.Signals) -> None:
        status = process.end(number)
        if status == 0:  # it was done before the signal came, which counts for nothing
            self.signals.insert(0, number)
            return
        if number is signal.SIGKILL:
            self.tally.kills += 1
            return
        self.tally.terms += 1
        if status != 128 + number:
            self.tally.problems.append(f"{results}: {number.name} ended a process with {status}")
        content = stored(results)
        lost = [f"{run} {image}" for run, image in process.images() if image not in content.get(run, {})]
        self.tally.problems += [f"{results}: lost after {number.name}: {image}" for image in lost]
        self.tally.stored_after_term += len(process.images())


def _wait_for_an_image(processes: list[Process]) -> None:
    """Until one is computed; where the others have all that is left, for a while."""
    end = time.monotonic() + 5
    while time.monotonic() < end and not any(process.images() for process in processes):
        time.sleep(0.01)


def soak(folder: Path, seed: int, kills: int, terms: int) -> Tally:
    """Kill and terminate so often; what was done, with every problem."""
    return Soak(folder, seed, kills, terms)()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    tally = soak(folder, chosen.seed, chosen.kills, chosen.terms)
    if not tally.problems:
        shutil.rmtree(folder)
    sys.stdout.write("\n".join([*tally.problems, f"{tally}; {time.monotonic() - began:.0f} s"]) + "\n")
    sys.exit(bool(tally.problems))
