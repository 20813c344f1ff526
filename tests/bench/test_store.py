from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.runs.part_files import NO_FLUSH, NO_HARD_LINKS, PartFiles
from segscale.bench.runs.store import RunStore, find_runs
from segscale.errors import UserError

from .stored_runs import PLAN, image_record, new_run, record


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    store.start(new_run(PLAN), [*"abc"])
    return store


def test_what_is_appended_is_loaded_in_the_order_of_the_ids(store: RunStore) -> None:
    store.append([record("b"), record("c")])
    store.append([record("a", 7)])
    stored = store.load(store.read())
    assert stored.images == ("a", "b", "c")
    counts = stored.at_threshold(0.5)
    assert counts.intersection.tolist() == [[7] * 3, [1] * 3, [1] * 3]
    assert counts.predicted_area.tolist() == [[8] * 3, [2] * 3, [2] * 3]
    assert counts.label_area.tolist() == [[7, 8, 9], [1, 2, 3], [1, 2, 3]]
    assert (stored.seconds.tolist(), stored.peak_bytes.tolist()) == ([0.5] * 3, [10] * 3)
    assert store.done() == {"a", "b", "c"}


def test_an_image_in_two_parts_counts_once(store: RunStore) -> None:
    store.append([record("a")])
    RunStore(store.folder, rank=1).append([record("a"), record("b")])
    assert store.load(store.read()).images == ("a", "b")


def test_thresholds_and_images_are_told_apart(store: RunStore) -> None:
    values = np.arange(12).reshape(2, 2, 3)
    store.append(
        [
            image_record(image, PixelCounts(value, value + 100, np.full(3, 50 + index)), 1000)
            for index, (image, value) in enumerate(zip("ab", values, strict=True))
        ]
    )
    stored = store.load(store.read())
    for index, threshold in enumerate((0.0, 0.5)):
        counts = stored.at_threshold(threshold)
        assert counts.intersection.tolist() == values[:, index].tolist()
        assert counts.predicted_area.tolist() == (values[:, index] + 100).tolist()
        assert counts.label_area.tolist() == [[50] * 3, [51] * 3]
    with pytest.raises(ValueError):
        stored.at_threshold(0.25)
    part = stored.only(["b", "nowhere"])
    assert part.images == ("b",)
    assert part.at_threshold(0.5).intersection.tolist() == [values[1, 1].tolist()]
    assert len(store.load(store.read()).only([])) == 0


def test_processes_with_the_same_rank_do_not_overwrite_each_other(store: RunStore) -> None:
    other = RunStore(store.folder)
    store.append([record("a")])
    other.append([record("b")])
    assert store.done() == {"a", "b"}
    assert len(list(store.parts.iterdir())) == 2


@pytest.mark.parametrize("keep", [0, 3, 200, -20])
def test_a_truncated_part_is_named_and_set_aside(store: RunStore, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    store.append([record("a")])
    store.append([record("b")])
    part = store.parts / "0-000001.parquet"
    part.write_bytes(part.read_bytes()[:keep])
    assert store.done() == {"a"}
    assert "0-000001.parquet is damaged" in caplog.text
    assert (store.parts / "0-000001.parquet.damaged").exists()
    store.append([record("b")])
    assert store.done() == {"a", "b"}
    assert not list(store.parts.glob(".*"))


def test_the_identity_is_the_same_from_a_plan_and_from_a_stored_run(store: RunStore) -> None:
    assert store.read().plan == PLAN
    assert store.read().plan.run_id == PLAN.run_id == store.read().run_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"version": "2"},
        {"method": replace(PLAN.method, parameters={"order": 2})},
        {"backbone": replace(PLAN.backbone, dtype="float16")},
        {"task": replace(PLAN.task, protocol=replace(PLAN.task.protocol, thresholds=(0.0, 0.25)))},
        {"task": replace(PLAN.task, dataset=replace(PLAN.task.dataset, split="train"))},
    ],
)
def test_whatever_can_change_a_number_changes_the_identity(change: dict[str, Any], store: RunStore) -> None:
    other = replace(PLAN, **change)
    assert other.run_id != PLAN.run_id
    with pytest.raises(UserError, match="holds another run"):
        store.start(new_run(other), [])
    assert store.read().plan == PLAN


def test_a_full_disk_is_one_line_and_the_store_goes_on_afterwards(store: RunStore) -> None:
    """A limit on file sizes makes the kernel refuse the write, as a full disk does."""
    store.append([record("a")])
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from segscale.bench.runs.store import RunStore
from stored_runs import record
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
RunStore(Path({str(store.folder)!r})).append([record("b")])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"UserError: no space left for {store.folder}; free some and run the same command again" in process.stderr
    assert [path.name for path in store.parts.iterdir()] == ["0-000000.parquet"]
    assert store.done() == {"a"}
    store.append([record("b")])
    assert store.done() == {"a", "b"}


def test_runs_of_analyses_are_pointed_to(tmp_path: Path) -> None:
    for analysis in ("analysis", "calibration"):
        run = new_run(PLAN)
        RunStore(tmp_path / analysis / "runs/b/m/d" / run.run_id).start(run, ["a"])
    (tmp_path / "other/runs").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        find_runs(tmp_path)
    assert caught.value.hint == (
        "make some with: segscale bench"
        f", or see those of --results {tmp_path}/analysis, or see those of --results {tmp_path}/calibration"
    )
    assert len(find_runs(tmp_path / "analysis")) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another --results"):
        RunStore(tmp_path / "file" / "run").start(new_run(PLAN), [])


@pytest.mark.parametrize("number", NO_HARD_LINKS)
def test_where_hard_links_are_refused_parts_are_renamed_and_none_is_overwritten(
    number: int, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    others = [RunStore(store.folder) for _ in range(2)]
    monkeypatch.setattr(PartFiles, "_free_names", lambda self, mark: iter([self.folder / "0-000000.parquet"]))
    for image, each in zip("abc", [store, *others], strict=True):
        each.append([record(image)])
    monkeypatch.undo()
    store.append([record("d")])
    assert store.done() == {"a", "b", "c", "d"}
    assert len(list(store.parts.iterdir())) == 4


@pytest.mark.parametrize("number", NO_FLUSH)
def test_a_share_that_flushes_no_folder_takes_parts(
    number: int, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    store.append([record("a")])
    assert store.done() == {"a"}


def test_another_refusal_is_one_line(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(UserError, match=r"cannot be written \(Input/output error\)"):
        store.append([record("a")])
    assert not list(store.parts.iterdir())


def test_leftovers_go_after_an_hour_whoever_left_them(store: RunStore) -> None:
    left = [store.parts / ".7-abc.tmp", store.folder / ".run.json-abc.tmp"]
    young = store.parts / ".3-abc.tmp"
    for path in (*left, young):
        path.write_text("")
    for path in left:
        os.utime(path, (0, 0))
    store.start(new_run(PLAN), ["a"])
    assert not any(path.exists() for path in left)
    assert young.exists()


def test_what_others_write_is_seen_when_asked_again(store: RunStore) -> None:
    assert store.done() == frozenset()
    RunStore(store.folder, rank=1).append([record("a")])
    assert store.done() == {"a"}
    next(store.parts.glob("*.parquet")).unlink()
    assert store.done() == frozenset()
