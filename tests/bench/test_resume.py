"""Runs that are killed, shared by processes or extended, as real processes."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from segscale.bench.runs import loop
from segscale.bench.runs.conditions import read_conditions
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.parts import COUNTS, ImageRecord
from segscale.bench.runs.share import own_first
from segscale.bench.runs.store import RunStore, find_runs

from ..conftest import interruptible
from .cells import evaluated, run_named

CELL = ("pocket", "standard")
IMAGES = 40
# Every image is written at once, so that a kill can fall between any two of them.
PROGRAM = f"""
import sys
from pathlib import Path
from segscale.bench.runs import loop
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.methods.build import build_method
from segscale.registry import build
loop.FLUSH_SECONDS = 0
options = RunOptions(limit={IMAGES}, results=Path(sys.argv[1]))
task = build_task("pocket", build("protocol", "standard"), options)
loop.run_methods("pocket-sd15", [build_method("vanilla", "pocket-sd15")], task, options)
"""


def start(results: Path, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(results)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def areas(results: Path) -> pd.DataFrame:
    (store,) = find_runs(results)
    counts = store.load(store.read())
    columns = {name: [row.tobytes() for row in getattr(counts, name)] for name in COUNTS}
    return pd.DataFrame({"image": counts.images, **columns})


def images_in_parts(results: Path) -> pd.Series:
    """Ids of the images in all parts, also of those that are there twice."""
    paths = results.glob("runs/*/*/*/*/parts/*.parquet")
    return pd.concat(pd.Series(pd.read_parquet(path)["image"]) for path in paths)


def parts(results: Path) -> int:
    return len(list(results.glob("runs/*/*/*/*/parts/*.parquet")))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    results = tmp_path_factory.mktemp("uninterrupted")
    assert start(results).wait() == 0
    frame = areas(results)
    assert len(frame) == IMAGES
    return frame


def test_killed_at_random_moments_a_run_resumes_to_the_same_bits(tmp_path: Path, uninterrupted: pd.DataFrame) -> None:
    generator, killed = random.Random(seed := random.randrange(10**6)), 0
    logging.getLogger(__name__).warning("seed %d", seed)
    for _ in range(2):
        before, process = parts(tmp_path), start(tmp_path)
        while parts(tmp_path) <= before + generator.randrange(1, 12) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert before < parts(tmp_path) < IMAGES
    assert killed == 2
    assert start(tmp_path).wait() == 0
    pd.testing.assert_frame_equal(areas(tmp_path), uninterrupted)
    (store,) = find_runs(tmp_path)
    assert images_in_parts(tmp_path).is_unique
    assert evaluated(store).missing == 0


def test_processes_share_a_run(tmp_path: Path, uninterrupted: pd.DataFrame) -> None:
    both = [start(tmp_path, RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    pd.testing.assert_frame_equal(areas(tmp_path), uninterrupted)


def test_a_rank_that_never_came_leaves_its_images_to_the_others(
    tmp_path: Path, uninterrupted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    (store,) = run_named("pocket-sd15", ["vanilla"], *CELL, RunOptions(limit=4, results=tmp_path))
    pd.testing.assert_frame_equal(areas(tmp_path), uninterrupted.head(4))
    assert {path.name[:2] for path in store.parts.iterdir()} == {"1-"}


def test_ranks_begin_with_different_images_and_know_all() -> None:
    orders = [own_first(range(7), rank, 3) for rank in range(3)]
    assert orders == [[0, 3, 6, 1, 4, 2, 5], [1, 4, 2, 5, 0, 3, 6], [2, 5, 0, 3, 6, 1, 4]]
    assert own_first(range(3), 0, 1) == [0, 1, 2]


def test_an_interrupt_between_writing_and_forgetting_loses_nothing_and_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunStore.append

    def interrupted(store: RunStore, records: Sequence[ImageRecord]) -> None:
        monkeypatch.setattr(RunStore, "append", append)
        append(store, records)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "append", interrupted)
    options = RunOptions(limit=3, results=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_named("pocket-sd15", ["vanilla", "goca"], *CELL, options)
    assert images_in_parts(tmp_path).value_counts().tolist() == [2, 2, 2]


def test_a_run_says_under_which_conditions_images_were_computed(tmp_path: Path) -> None:
    for names in (["vanilla"], ["goca"], ["vanilla", "goca"]):
        run_named("pocket-sd15", names, *CELL, RunOptions(limit=len(names), results=tmp_path))
    every = [read_conditions(store.folder) for store in find_runs(tmp_path)]
    assert [{each.shared_by for each in run} for run in every] == [
        {("goca",), ("vanilla", "goca")},
        {("vanilla",), ("vanilla", "goca")},
    ]
    assert {(each.device, each.threads) for run in every for each in run} == {("cpu", torch.get_num_threads())}


def test_a_damaged_part_is_computed_again_and_a_limit_can_grow(
    tmp_path: Path, uninterrupted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", 0)

    def run_to(limit: int) -> RunStore:
        return run_named("pocket-sd15", ["vanilla"], *CELL, RunOptions(limit=limit, results=tmp_path))[0]

    store = run_to(3)
    part = min(store.parts.glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    assert run_to(5).done() == {f"val-{index:05d}" for index in range(5)}
    assert part.with_suffix(".parquet.damaged").exists()
    pd.testing.assert_frame_equal(areas(tmp_path), uninterrupted.head(5))


def test_a_finished_run_loads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    (store,) = run_named("pocket-sd15", ["vanilla"], *CELL, options)
    monkeypatch.setattr(loop, "_Loop", lambda *_: pytest.fail("computed again"))
    (again,) = run_named("pocket-sd15", ["vanilla"], *CELL, options)
    assert again.folder == store.folder


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 2, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_says_how_to_resume_and_keeps_what_was_computed(
    number: signal.Signals, status: int, word: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "segscale", "run", "--results", str(tmp_path), "--dataset", "pocket"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=interruptible
    )
    assert process.stderr is not None
    seen = ""
    while not re.search(r" [1-9]\d+/200", seen) and (piece := process.stderr.read(1)):
        seen += piece
    process.send_signal(number)
    last = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == status
    assert "Traceback" not in seen
    resume = f"what was computed is stored, resume with: segscale run --results {tmp_path} --dataset pocket"
    assert last == f"segscale: error: {word}; {resume}"
    assert not list(tmp_path.glob("runs/.leases/*"))
    (store,) = find_runs(tmp_path)
    assert len(store.done()) >= 5


def test_a_complete_run_tidies_up_after_a_process_that_died_at_its_end(tmp_path: Path) -> None:
    stores = run_named("pocket-sd15", ["vanilla"], "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    runs = (stores[0].folder.name,)
    code = f"""
import os
from pathlib import Path
from segscale.bench.runs.leases import HeldLease
HeldLease(Path({str(tmp_path)!r}), {runs!r}).__enter__()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert list(tmp_path.glob("runs/.leases/*/*"))
    run_named("pocket-sd15", ["vanilla"], "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    assert not list(tmp_path.glob("runs/.leases/*/*"))
