"""Reading ahead and counting behind change nothing but the time that a run takes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from segscale.bench.inference.batch import MOST_ROWS, rows_that_fit
from segscale.bench.inference.score import AskedImage, ScoredImage, Scoring
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.runs.stage import Stage
from segscale.bench.runs.store import RunStore, find_runs
from segscale.bench.tasks.task import Task
from segscale.datasets.dataset import Sample
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.methods.method import Method
from segscale.registry import build

from .cells import run_named
from .test_run import stored

METHODS = ("vanilla", "goca")


def working() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("counting", "reading", "model"))]


def run(results: Path, **choices: object) -> list[RunStore]:
    return run_named("pocket-sd15", METHODS, "pocket", "standard", RunOptions(results=results, **choices))


def test_workers_and_a_batch_that_does_not_divide_change_no_area(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", limit=7, batch=3)
    ahead = run(tmp_path / "ahead", limit=7, workers=2, batch=3, save_masks=2)
    for one, other in zip(plain, ahead, strict=True):
        pd.testing.assert_frame_equal(stored(one), stored(other))
        assert one.made_of() == other.made_of()
    assert not working()


def test_a_run_that_stopped_goes_on_with_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = run(tmp_path / "complete", limit=6)
    run(tmp_path / "resumed", limit=2)
    resumed = run(tmp_path / "resumed", limit=6, workers=1)
    for one, other in zip(complete, resumed, strict=True):
        pd.testing.assert_frame_equal(stored(one), stored(other))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupt_between_model_and_counting_stores_no_image_twice(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give, counted = Stage.give, list[object]()

    def interrupted(self: Stage[Any], work: Any) -> None:
        give(self, work)
        if work.func.__name__ == "_count":
            counted.append(work)
            if len(counted) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Stage, "give", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, limit=4, workers=workers)
    for store in find_runs(tmp_path):
        images = [image for part in store.parts.glob("*.parquet") for image in pq.read_table(part)["image"].to_pylist()]
        assert len(images) == len({*images}) >= 2


def test_an_image_that_cannot_be_counted_stops_the_run_and_loses_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Task.count

    def refused(task: Task, scores: object, ids: object, sample: Sample) -> object:
        if sample.id == task.dataset.ids[2]:
            raise UserError(f"image {sample.id} cannot be counted")
        return count(task, scores, ids, sample)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Task, "count", refused)
    with pytest.raises(UserError, match="cannot be counted"):
        run(tmp_path, limit=5, workers=1)
    ids = build_task("pocket", build("protocol", "standard"), RunOptions()).dataset.ids
    for store in find_runs(tmp_path):
        assert {*ids[:2]} <= store.done() <= {*ids[:5]} - {ids[2]}
    assert not working()


def test_an_interrupt_stores_what_is_computed_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, answer, asked, answered = Scoring.ask, Scoring.answer, list[str](), list[str]()

    def interrupted(scoring: Scoring, methods: Sequence[Method], samples: Sequence[Sample]) -> list[AskedImage]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(samples[0].id)
        return ask(scoring, methods, samples)

    def noted(scoring: Scoring, images: Sequence[AskedImage]) -> list[ScoredImage]:
        answered.append(images[0].sample.id)
        return answer(scoring, images)

    monkeypatch.setattr(Scoring, "ask", interrupted)
    monkeypatch.setattr(Scoring, "answer", noted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, limit=6, workers=2)
    assert answered[:1] == asked[:1]
    assert [store.done() for store in find_runs(tmp_path)] == [{*answered}, {*answered}]
    assert not working()
    assert not list(tmp_path.glob("runs/.leases/*/*"))


@pytest.mark.usefixtures("memory_for_three")
def test_on_a_device_with_its_own_memory_the_first_image_says_how_many_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    answer = Scoring.answer

    def noted(*arguments: object) -> object:
        batches.append(len(arguments[1]))  # pyright: ignore[reportArgumentType]
        return answer(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Scoring, "answer", noted)
    options = RunOptions(results=tmp_path, limit=8)
    task = build_task("pocket", build("protocol", "standard"), options)
    run_methods("pocket-sd15", [build_method("vanilla", "pocket-sd15")], task, options)
    assert batches[:2] == [1, 3]
    assert sum(batches) == 8


@pytest.mark.parametrize(
    ("free", "row", "rows"), [(0, 10, 1), (100, 10, 8), (9, 10, 1), (10**12, 10, MOST_ROWS), (10, 0, 8)]
)
def test_rows_that_fit_leave_some_memory(free: int, row: int, rows: int) -> None:
    assert rows_that_fit(free, row) == rows
