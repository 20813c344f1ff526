"""``run.json``, also one that this version cannot read: it costs one line, and other runs are evaluated as before."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from segscale.bench.commands.main import main
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task, run_folder
from segscale.bench.runs.record import FORMAT, parse_run, run_text
from segscale.bench.runs.store import RunStore
from segscale.errors import OtherFormatError, StoreError, UserError
from segscale.registry import build

from .cells import run_named
from .stored_runs import PLAN, image_record, new_run

GOOD = run_text(new_run(PLAN))


def changed(**changes: object) -> str:
    return json.dumps(json.loads(GOOD) | changes)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(GOOD).items() if name != key})


# What the file holds, and what its line says of it.
FOREIGN: dict[str, tuple[bytes, str]] = {
    "an older format": (changed(format=1).encode(), f"is of format 1, this version reads {FORMAT}"),
    "a newer format": (changed(format=9).encode(), f"is of format 9, this version reads {FORMAT}"),
    "an older format with other fields": (b'{"format": 2}', f"is of format 2, this version reads {FORMAT}"),
    "no format's fields": (b"{}", f"is not of format {FORMAT} (run_id: "),
    "a list": (b"[]", f"is not of format {FORMAT} (contents: "),
    "text": (b"not JSON", f"is not of format {FORMAT} (contents: "),
    "nothing": (b"", f"is not of format {FORMAT} (contents: "),
    "half of it": (GOOD[: len(GOOD) // 2].encode(), f"is not of format {FORMAT} (contents: "),
    "bytes": (bytes(range(256)), f"is not of format {FORMAT} (contents: "),
    "a missing field": (without("classes").encode(), f"is not of format {FORMAT} (classes: "),
    "a field of another type": (changed(split_images="many").encode(), f"is not of format {FORMAT} (split_images: "),
    "a class name that was edited": (changed(classes=["x", "y", "zebra"]).encode(), "is not as it was written"),
    "no checksum": (without("checksum").encode(), "is not as it was written"),
    "a setting that was edited": (
        changed(plan=asdict(replace(PLAN, seed=1))).encode(),
        f"does not match its run id {PLAN.run_id}",
    ),
}
OTHER_FORMAT = "choose another --results; runs of another format are read by the version that made them"
DAMAGED = {name: case for name, case in FOREIGN.items() if "is of format" not in case[1]}
every_damaged = pytest.mark.parametrize(("content", "line"), DAMAGED.values(), ids=DAMAGED)
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
    with pytest.raises(StoreError) as error:
        store.read()
    assert error.value.problem.startswith(f"{path} {line}")
    kept = "give the command that made it again: its images are kept"
    assert error.value.hint == (kept if "is of format" not in line else OTHER_FORMAT)
    assert len(str(error.value).splitlines()) == 1


def test_a_run_of_another_version_stays_as_it_is(tmp_path: Path) -> None:
    folder = stored_run(tmp_path, 0).folder
    (folder / "run.json").write_bytes(changed(format=FORMAT - 1).encode())
    with pytest.raises(OtherFormatError, match="choose another --results"):
        RunStore(folder).start(new_run(PLAN), ["a"])
    assert (folder / "run.json").read_bytes() == changed(format=FORMAT - 1).encode()
    assert [path.suffix for path in (folder / "parts").iterdir()] == [".parquet"]


@every_damaged
def test_the_same_run_writes_it_anew_and_keeps_the_images(
    content: bytes, line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = stored_run(tmp_path, 0).folder
    path = folder / "run.json"
    path.write_bytes(content)
    store = RunStore(folder)
    store.start(new_run(PLAN), ["a"])
    (message,) = caplog.messages
    assert message.startswith(f"{path} {line}")
    assert message.endswith("; it is written anew, the old one is run.json.damaged")
    assert len(message.splitlines()) == 1
    assert (folder / "run.json.damaged").read_bytes() == content
    assert RunStore(folder).read() == new_run(PLAN)
    assert RunStore(folder).done() == {"a"}


@pytest.mark.parametrize("seed", range(2))
def test_no_flipped_bit_changes_what_tables_read(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(200):
        changed = bytearray(GOOD.encode())
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        with suppress(StoreError):
            assert parse_run(bytes(changed), "run.json") == new_run(PLAN)


def test_a_run_json_that_is_gone_is_named_and_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stores = [stored_run(tmp_path, seed) for seed in range(2)]
    (stores[0].folder / "run.json").unlink()
    assert [run.run.run_id for run in evaluate_runs(tmp_path)] == [stores[1].folder.name]
    (message,) = caplog.messages
    assert message.startswith(f"{stores[0].folder / 'run.json'} cannot be read (No such file or directory); give the")
    RunStore(stores[0].folder).start(new_run(replace(PLAN, seed=0)), ["a"])
    assert len(evaluate_runs(tmp_path)) == 2


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[]")])
def test_what_only_the_backbone_knows_comes_back(damage: Callable[[Path], object], tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    (store,) = run_named("pocket-sd15", ["vanilla"], "pocket", "standard", options)
    before, seconds = store.read(), store.load(store.read()).seconds.tolist()
    damage(store.folder / "run.json")
    (again,) = run_named("pocket-sd15", ["vanilla"], "pocket", "standard", options)
    after = again.read()
    assert before.parameters is not None
    assert (after.parameters, after.machine, after.wanted) == (before.parameters, before.machine, before.wanted)
    assert again.load(after).seconds.tolist() == seconds


@pytest.mark.parametrize("command", ["table", "leaderboard"])
def test_the_exit_status_tells_that_a_run_was_passed_over(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("vanilla", "goca"):
        run_named("pocket-sd15", [name], "pocket", "standard", RunOptions(limit=1, results=tmp_path))
    main([command, "--results", str(tmp_path)])
    empty = run_folder(tmp_path, replace(PLAN, seed=7))
    RunStore(empty).start(new_run(replace(PLAN, seed=7)), [])
    main([command, "--results", str(tmp_path)])
    damaged = next(path for path in tmp_path.glob("runs/*/*/*/*/run.json") if path.parent != empty)
    damaged.write_text("{}")
    capsys.readouterr()
    caplog.clear()
    with pytest.raises(SystemExit) as end:
        main([command, "--results", str(tmp_path)])
    assert end.value.code == 1
    written = "scaling.csv" if command == "table" else "leaderboard.md"
    assert f"wrote {tmp_path}/{written}" in capsys.readouterr().out
    assert [message.startswith(str(damaged)) for message in caplog.messages].count(True) == 1


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
