from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segscale.bench.evaluation.pixel_counts import Areas
from segscale.bench.runs.identity import Plan
from segscale.bench.runs.store import Record, RunStore, areas_at

from segscale.errors import UserError

PLAN = Plan({"name": "b"}, {"name": "m"}, {"name": "d"}, {"name": "p", "thresholds": [0.0]}, 0, "1")


def record(image: str, value: int = 1) -> Record:
    return Record(image, 0.5, 10, Areas(np.full((2, 3), value), np.full((2, 3), value + 1), np.arange(3)))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    store.start(PLAN, {"status": "running"})
    return store


def test_what_is_appended_is_loaded_in_the_order_of_the_ids(store: RunStore) -> None:
    store.append([record("b"), record("c")])
    store.append([record("a", 7)])
    frame = store.load()
    assert frame["image"].tolist() == ["a", "b", "c"]
    intersection, prediction, label = areas_at(frame, 1, 3)
    assert intersection.tolist() == [[7] * 3, [1] * 3, [1] * 3]
    assert prediction.tolist() == [[8] * 3, [2] * 3, [2] * 3]
    assert label.tolist() == [[0, 1, 2]] * 3
    assert store.done() == {"a", "b", "c"}


def test_an_image_in_two_parts_counts_once(store: RunStore) -> None:
    store.append([record("a")])
    RunStore(store.folder, rank=1).append([record("a"), record("b")])
    assert store.load()["image"].tolist() == ["a", "b"]


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
    assert store.plan() == PLAN
    assert store.plan().identity == PLAN.identity == store.read()["identity"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"version": "2"},
        {"method": {"name": "m", "order": 2}},
        {"backbone": {"name": "b", "dtype": "float16"}},
    ],
)
def test_whatever_can_change_a_number_changes_the_identity(change: dict[str, object], store: RunStore) -> None:
    other = replace(PLAN, **change)
    assert other.identity != PLAN.identity
    with pytest.raises(UserError, match="holds another run"):
        store.start(other, {})


def test_a_damaged_run_json_is_one_line(store: RunStore) -> None:
    (store.folder / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run.json cannot be read .*; remove the folder and run again"):
        store.plan()


def test_a_full_disk_is_one_line_and_the_store_goes_on_afterwards(store: RunStore) -> None:
    """A limit on file sizes makes the kernel refuse the write, as a full disk does."""
    store.append([record("a")])
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_store import RunStore, record
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
RunStore(Path({str(store.folder)!r})).append([record("b")])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"UserError: no space left for {store.folder}; free some and run the same command again" in process.stderr
    assert [path.name for path in store.parts.iterdir()] == ["0-000000.parquet"]
    assert store.done() == {"a"}
    store.append([record("b")])
    assert store.done() == {"a", "b"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another --results"):
        RunStore(tmp_path / "file" / "run").start(PLAN, {})
