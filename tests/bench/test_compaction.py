"""A finished run is merged into few parts: no image is lost, doubled or changed, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from segscale.bench.runs import store as store_module
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.store import RunStore

from .cells import run_named
from .stored_runs import PLAN, new_run, record

IMAGES = [f"image-{index}" for index in range(7)]
LATER = "image-9"
OWNERS: dict[str, Any] = {"link": os, "fsync": os, "unlink": Path, "open": Path}
STEPS = 25
"""Calls of these in one merge of the store below."""


class Killed(BaseException):
    """Ends a process at a step; nothing catches it."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """Seven images in nine parts of two ranks; two images were computed twice, with other areas."""
    monkeypatch.setattr(store_module, "PART_IMAGES", 3)
    first, second = (RunStore(tmp_path / "run", rank) for rank in range(2))
    for each in (first, second):
        each.start(new_run(PLAN), [*IMAGES, LATER])
    for index, image in enumerate(IMAGES):
        (first, second)[index % 2].append([record(image, 2 + index)])
    second.append([record(IMAGES[0], 90)])
    first.append([record(IMAGES[1], 91)])
    return second


def stored(store: RunStore) -> dict[str, Any]:
    """Areas as another process reads them."""
    counts = RunStore(store.folder).load(store.read())
    assert len(counts.images) == len(set(counts.images))
    return dict(zip(counts.images, counts.intersection.tolist(), strict=True))


def sizes(store: RunStore) -> list[int]:
    """Images per part."""
    names = sorted(store.parts.glob("*"))
    assert all(path.suffix == ".parquet" for path in names)
    return sorted(len(RunStore(store.folder)._digests_of(path) or {}) for path in names)


def test_many_parts_become_few_with_the_same_images(store: RunStore) -> None:
    before = stored(store)
    assert len(sizes(store)) == 9
    store.compact()
    assert sizes(store) == [1, 3, 3]
    assert stored(store) == before
    assert store.done() == {*IMAGES}
    names = sorted(store.parts.iterdir())
    store.compact()
    assert sorted(store.parts.iterdir()) == names


def dying(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, steps: list[str], end: int) -> None:
    """Before every call of ``owner.name`` a step is counted; at the step ``end`` the process dies."""
    original: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        if len(steps) == end:
            raise Killed(name)
        steps.append(name)
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("end", range(STEPS))
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    end: int, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, steps = stored(store), list[str]()
    store.done()
    with monkeypatch.context() as dangerous:
        for name, owner in OWNERS.items():
            dying(dangerous, owner, name, steps, end)
        with pytest.raises(Killed):
            store.compact()
    assert stored(store) == before
    again = RunStore(store.folder)
    again.compact()
    assert stored(store) == before
    assert len(list(store.parts.glob("*.parquet"))) == 3


@pytest.mark.parametrize("end", range(STEPS))
def test_kills_of_two_merges_in_a_row_leave_the_number_of_images(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART_IMAGES", 3)
    first, second = (RunStore(tmp_path / "run", rank) for rank in range(2))
    for each in (first, second):
        each.start(new_run(PLAN), IMAGES)
    for image in IMAGES:
        second.append([record(image, 2)])
    for _ in range(2):
        steps: list[str] = []
        with monkeypatch.context() as dangerous, suppress(Killed):
            for name, owner in OWNERS.items():
                dying(dangerous, owner, name, steps, end)
            first.compact()
        assert first.count() == len(IMAGES)


def test_images_that_two_merged_parts_hold_count_once(store: RunStore) -> None:
    store.compact()
    assert store.count(wanted=len(IMAGES)) == len(IMAGES)
    for path in sorted(store.parts.glob("*.parquet")):
        copy = path.with_name(f"9-00000{path.name[-9]}.{path.name.partition('.')[2]}")
        copy.write_bytes(path.read_bytes())
    assert store.count(wanted=len(IMAGES)) == len(IMAGES)
    assert RunStore(store.folder).done() == {*IMAGES}


def test_the_steps_above_are_all_there_are(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    with monkeypatch.context() as dangerous:
        for name, owner in OWNERS.items():
            dying(dangerous, owner, name, steps, STEPS)
        store.compact()
    assert len(steps) == STEPS
    assert set(steps) == OWNERS.keys()


@pytest.mark.parametrize("moment", ["link", "unlink"])
def test_another_process_merges_and_appends_meanwhile(
    moment: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, others = stored(store), list[bool]()
    owner = OWNERS[moment]
    original = getattr(owner, moment)

    def meanwhile(*arguments: Any, **keywords: Any) -> Any:
        if not others:
            others.append(True)
            other = RunStore(store.folder, rank=1)
            other.compact()
            other.append([record(LATER, 5)])
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, moment, meanwhile)
    store.compact()
    assert others
    assert stored(store) == before | {LATER: [[5] * 3] * 2}
    store.compact()
    assert sizes(store) == [2, 3, 3]
    assert stored(store) == before | {LATER: [[5] * 3] * 2}


def test_a_damaged_part_is_left_out_and_the_others_are_merged(store: RunStore) -> None:
    part = store.parts / "0-000001.parquet"
    (lost,) = RunStore(store.folder)._digests_of(part) or {}
    part.write_bytes(part.read_bytes()[:50])
    RunStore(store.folder).compact()
    assert stored(store).keys() == {*IMAGES} - {lost}


def test_a_finished_run_has_one_part_and_an_unfinished_one_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segscale.bench.runs.loop.FLUSH_SECONDS", 0)

    def run(limit: int) -> RunStore:
        options = RunOptions(limit=limit, results=tmp_path)
        return run_named("pocket-sd15", ["vanilla"], "pocket", "standard", options)[0]

    assert [path.name for path in run(3).parts.iterdir()] == ["0-000003.3.parquet"]
    assert [path.name for path in run(5).parts.iterdir()] == ["0-000006.5.parquet"]
