"""Batches: how many rows share a forward, and what a run makes of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segscale.backbones.attention.chunks import CHUNK_BYTES
from segscale.backbones.attention.ways import Ways
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.bench.commands.main import main
from segscale.bench.inference.batch import BatchLimit
from segscale.bench.inference.memory import PeakMemory
from segscale.bench.inference.score import image_noise, score
from segscale.bench.runs.conditions import read_conditions
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.runs.store import RunStore
from segscale.errors import UserError
from segscale.registry import build

from .cells import run_named

BACKBONE = "pocket-sd3"
METHODS = ("goca", "vanilla")


class Work:
    """Remembers the batches that it could do; memory runs out above ``room`` rows."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.done: list[list[int]] = []

    def __call__(self, rows: Sequence[int]) -> None:
        if len(rows) > self.room:
            raise torch.OutOfMemoryError
        self.done.append([*rows])


def test_rows_go_in_order_and_the_last_batch_is_smaller() -> None:
    work = Work(room=3)
    BatchLimit(3).over(range(7), work)
    assert work.done == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.usefixtures("memory_for_three")
@pytest.mark.parametrize(("asked", "rows"), [(None, 3), (2, 2)])
def test_memory_says_once_how_many_rows_fit_where_nobody_did(
    asked: int | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, memory = BatchLimit(asked), PeakMemory(torch.device("cpu"))
    limit.fit(memory)
    assert limit.rows == rows
    monkeypatch.setattr(PeakMemory, "growth", lambda self: 100)
    limit.fit(memory)
    assert limit.rows == rows


def test_a_batch_that_does_not_fit_is_halved_for_good_and_told(caplog: pytest.LogCaptureFixture) -> None:
    work, limit = Work(room=2), BatchLimit(8)
    with caplog.at_level(logging.WARNING):
        limit.over(range(9), work)
        limit.over(range(3), work)
    assert work.done == [[0, 1], [2, 3], [4, 5], [6, 7], [8], [0, 1], [2]]
    assert limit.rows == 2
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"{rows} images do not fit into the device's memory" for rows in (8, 4)
    ]


def test_one_row_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match="one image does not fit"):
        BatchLimit(4).over(range(4), Work(room=0))


def test_a_device_whose_memory_errors_have_no_class_is_understood() -> None:
    def work(rows: Sequence[int]) -> None:
        if len(rows) > 1:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 17 GiB)")

    limit = BatchLimit(2)
    limit.over(range(3), work)
    assert limit.rows == 1

    def broken(rows: Sequence[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        limit.over(range(3), broken)


def test_a_single_row_that_reads_in_chunks_is_tried_with_smaller_ones(caplog: pytest.LogCaptureFixture) -> None:
    limit, shares = BatchLimit(2), list[float]()

    def work(rows: Sequence[int]) -> None:
        shares.append(limit.chunk_share)
        if len(rows) > 1 or limit.chunk_share > 1 / 4:
            raise torch.OutOfMemoryError

    limit.over(range(2), work, in_chunks=True)
    assert (shares, limit.rows) == ([1, 1, 1 / 2, 1 / 4, 1 / 4], 1)
    assert "in chunks of half the size" in caplog.text
    with pytest.raises(UserError, match="one image does not fit"):
        limit.over(range(1), Work(room=0), in_chunks=True)


def run(path: Path, batch: int, limit: int = 5, protocol: str = "standard") -> list[RunStore]:
    return run_named(BACKBONE, METHODS, "pocket", protocol, RunOptions(limit=limit, results=path, batch=batch))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward."""
    rows: list[int] = []
    observe = Backbone.observe

    def counted(self: Backbone, images: list[PromptedImage], *rest: object, **keywords: object) -> object:
        rows.append(len(images))
        return observe(self, images, *rest, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    return rows


def rows_noted(store: RunStore) -> list[int]:
    return sorted(conditions.batch for conditions in read_conditions(store.folder))


def assert_equal_counts(first: RunStore, second: RunStore) -> None:
    """Rounding may give a pixel to another class at one of the thresholds."""
    alone, together = (store.load(store.read()) for store in (first, second))
    assert alone.images == together.images
    assert np.array_equal(alone.label_area, together.label_area)
    moved = np.abs(alone.predicted_area - together.predicted_area).sum()
    assert moved <= 1e-5 * alone.predicted_area.sum()


@pytest.mark.parametrize("protocol_name", ["standard", "standard-full"])
def test_scores_in_batches_are_as_one_by_one(protocol_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounding maps to half precision makes a last bit of float32 a thousand times as large.
    monkeypatch.setattr(Backbone, "observe", partialmethod(Backbone.observe, pixel_dtype=torch.float32))
    backbone = build_backbone(BACKBONE)
    protocol = build("protocol", protocol_name)
    task = build_task("pocket", protocol, RunOptions())
    methods = build_methods(METHODS, BACKBONE, protocol)
    samples, noise = [task.dataset[index] for index in range(4)], image_noise(backbone, task, 0)
    alone, together = (score(backbone, task, methods, samples, noise, BatchLimit(rows)) for rows in (1, 3))
    assert [image.forwards for image in together] == [image.forwards for image in alone]
    for first, second in zip(alone, together, strict=True):
        assert first.sample is second.sample
        assert first.ways == second.ways
        for one_by_one, batched in zip(first.by_method, second.by_method, strict=True):
            assert batched.prompts == one_by_one.prompts
            assert batched.cut == one_by_one.cut
            for part in ("classes", "background", "evidence"):
                values = (getattr(answer.scores, part) for answer in (batched, one_by_one))
                torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("protocol", ["standard", "standard-full"])
def test_a_run_in_batches_is_as_one_by_one(protocol: str, tmp_path: Path, batches: list[int]) -> None:
    alone = run(tmp_path / "1", 1, protocol=protocol)
    single = [*batches]
    batches.clear()
    together = run(tmp_path / "3", 3, protocol=protocol)
    assert set(single) == {1}
    assert max(batches) == 3
    assert sum(batches) == len(single)
    for first, second in zip(alone, together, strict=True):
        assert_equal_counts(first, second)
        assert [rows_noted(store) for store in (first, second)] == [[1], [3]]
        forwards = [store.load(store.read()).forwards_together for store in (first, second)]
        assert np.array_equal(*forwards)


def test_a_resumed_run_batches_what_is_due(tmp_path: Path, batches: list[int]) -> None:
    run_named(BACKBONE, METHODS[:1], "pocket", "standard", RunOptions(limit=3, results=tmp_path))
    batches.clear()
    stores = run(tmp_path, 4, limit=6)
    assert max(batches) == 3, "three images lack one method, three lack both"
    for first, second in zip(run(tmp_path / "1", 1, limit=6), stores, strict=True):
        assert_equal_counts(first, second)


def test_a_run_that_is_out_of_memory_goes_on_with_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Backbone.observe

    def small(self: Backbone, images: list[PromptedImage], *rest: object, ways: Ways) -> object:
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return observe(self, images, *rest, ways=ways)

    monkeypatch.setattr(Backbone, "observe", small)
    stores = run(tmp_path / "4", 4)
    assert [rows_noted(store) for store in stores] == [[2, 4], [2, 4]]
    for first, second in zip(run(tmp_path / "1", 1), stores, strict=True):
        assert_equal_counts(first, second)


def test_a_run_that_is_out_of_memory_for_one_image_goes_on_in_smaller_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Backbone.observe

    def small(self: Backbone, *arguments: Any, ways: Ways) -> object:
        if ways.chunk_bytes is None or ways.chunk_bytes > CHUNK_BYTES["cpu"] / 4:
            raise torch.OutOfMemoryError
        return observe(self, *arguments, ways=ways)

    monkeypatch.setattr(Backbone, "observe", small)
    stores = run(tmp_path / "small", 1)
    monkeypatch.undo()
    for first, second in zip(run(tmp_path / "1", 1), stores, strict=True):
        shares = {conditions.chunk_share for conditions in read_conditions(second.folder)}
        assert shares == {1, 1 / 4}
        assert_equal_counts(first, second)


def test_conditions_that_cannot_be_read_hide_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (store,) = run_named("pocket-sd15", ["vanilla"], "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    (path,) = store.folder.glob("conditions-*.json")
    path.write_text("{")
    assert read_conditions(store.folder) == []
    assert f"{path} cannot be read" in caplog.text
    main(["report", "--results", str(tmp_path)])
    assert (tmp_path / "report.html").exists()
