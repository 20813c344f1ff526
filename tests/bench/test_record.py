"""``run.json``, also one that this version cannot read: it costs one line, and other runs are evaluated as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task, run_folder
from segscale.bench.runs.record import FORMAT, parse_run, run_text
from segscale.bench.runs.store import RunStore
from segscale.errors import StoreError, UserError
from segscale.registry import build

from .stored_runs import PLAN, image_record, new_run

GOOD = run_text(new_run(PLAN))


def changed(**changes: object) -> str:
    return json.dumps(json.loads(GOOD) | changes)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(GOOD).items() if name != key})


# What the file holds, and what its line says of it.
FOREIGN: dict[str, tuple[bytes, str]] = {
    "an older format": (changed(format=1).encode(), f"is of format 1, this version reads {FORMAT}"),
    "a newer format": (changed(format=4).encode(), f"is of format 4, this version reads {FORMAT}"),
    "no format's fields": (b"{}", f"is not of format {FORMAT} (run_id: "),
    "a list": (b"[]", f"is not of format {FORMAT} (contents: "),
    "text": (b"not JSON", f"is not of format {FORMAT} (contents: "),
    "nothing": (b"", f"is not of format {FORMAT} (contents: "),
    "half of it": (GOOD[: len(GOOD) // 2].encode(), f"is not of format {FORMAT} (contents: "),
    "bytes": (bytes(range(256)), f"is not of format {FORMAT} (contents: "),
    "a missing field": (without("classes").encode(), f"is not of format {FORMAT} (classes: "),
    "a field of another type": (changed(images="many").encode(), f"is not of format {FORMAT} (images: "),
    "a setting that was edited": (
        changed(plan=asdict(replace(PLAN, seed=1))).encode(),
        f"does not match its run id {PLAN.run_id}",
    ),
}
every_foreign = pytest.mark.parametrize(("content", "line"), FOREIGN.values(), ids=FOREIGN)


def stored_run(results: Path, seed: int) -> RunStore:
    """A run with one image."""
    plan = replace(PLAN, seed=seed)
    store = RunStore(run_folder(results, plan))
    store.start(new_run(plan), ["a"])
    counts = np.array([[5, 3, 0], [5, 2, 0]])
    store.append([image_record("a", PixelCounts(counts, counts + 1, np.array([6, 4, 0])), 20)])
    return store


def test_a_run_comes_back_as_it_was_stored() -> None:
    assert parse_run(GOOD.encode(), "run.json") == new_run(PLAN)
    assert run_text(parse_run(GOOD.encode(), "run.json")) == GOOD


def test_thresholds_may_be_whole_numbers() -> None:
    protocol = replace(build("protocol", "standard"), thresholds=(0, 1), threshold=0)
    plan = replace(PLAN, task=build_task("pocket", protocol, RunOptions()).identity)
    assert parse_run(run_text(new_run(plan)).encode(), "run.json").plan == plan


@every_foreign
def test_a_run_that_cannot_be_read_is_named_in_one_line(content: bytes, line: str, tmp_path: Path) -> None:
    store = stored_run(tmp_path, 0)
    path = store.folder / "run.json"
    path.write_bytes(content)
    readers: list[Callable[[], object]] = [store.read, lambda: store.start(new_run(PLAN), [])]
    for reader in readers:
        with pytest.raises(StoreError) as error:
            reader()
        assert error.value.problem.startswith(f"{path} {line}")
        assert error.value.hint == "remove its folder and make it anew with: segscale bench"
        assert len(str(error.value).splitlines()) == 1


@every_foreign
def test_it_is_passed_over_where_runs_are_evaluated(
    content: bytes, line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [stored_run(tmp_path, seed) for seed in range(3)]
    before = {run.run.run_id: run.score.miou for run in evaluate_runs(tmp_path)}
    assert len(before) == 3
    damaged = stores[1].folder
    (damaged / "run.json").write_bytes(content)
    caplog.clear()
    after = {run.run.run_id: run.score.miou for run in evaluate_runs(tmp_path)}
    assert after == {run_id: miou for run_id, miou in before.items() if run_id != damaged.name}
    (message,) = caplog.messages
    assert message.startswith(f"{damaged / 'run.json'} {line}")
    assert len(message.splitlines()) == 1


def test_where_none_can_be_read_the_line_says_how_to_make_some(tmp_path: Path) -> None:
    (stored_run(tmp_path, 0).folder / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"no run in .*/runs holds an image; make some with: segscale bench"):
        evaluate_runs(tmp_path)
