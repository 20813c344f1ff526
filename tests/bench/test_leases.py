"""Processes that share images; where a process must die, it is a real one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segscale.bench.runs import leases
from segscale.bench.runs.leases import HeldLease, read_leases
from segscale.errors import UserError
from segscale.files import LEFTOVER_SECONDS
from segscale.places import created

RUNS = ("run-a", "run-b")


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[HeldLease]:
    with HeldLease(tmp_path, RUNS) as lease:
        yield lease


def files(results: Path) -> set[str]:
    return {path.name for path in results.glob("runs/.leases/*/*")}


def left_by_a_dead_process(results: Path, *claims: int) -> str:
    """What a killed process of this machine leaves behind; the name of its lease."""
    code = f"""
import os, sys
from pathlib import Path
from segscale.bench.runs.leases import HeldLease
lease = HeldLease(Path({str(results)!r}), {RUNS!r}).__enter__()
lease.claim({claims!r}, 100)
print(lease.name, flush=True)
os.kill(os.getpid(), 9)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


def from_elsewhere(lease: HeldLease, name: str, *claims: int, silent_for: float) -> None:
    """A lease of another machine."""
    content = json.loads(lease.path.read_text()) | {"host": "elsewhere"}
    path = lease.folder / f"{name}.json"
    path.write_text(json.dumps(content))
    then = lease.path.stat().st_mtime - silent_for
    os.utime(path, (then, then))
    for claim in claims:
        (lease.folder / f"{claim}.claim").write_text(name)


def test_an_image_is_held_by_one_process(tmp_path: Path, lease: HeldLease) -> None:
    with HeldLease(tmp_path, reversed(RUNS)) as other:
        assert lease.claim([3, 1, 2], most=2) == [3, 1]
        assert other.claim([1, 2, 3, 4], most=9) == [2, 4]
        lease.release([3])
        assert other.claim([1, 3], most=9) == [3]


def test_many_processes_claim_each_image_once(tmp_path: Path) -> None:
    held = [HeldLease(tmp_path, RUNS).__enter__() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda lease: lease.claim(range(300), 300), held))
    assert sorted(index for each in claimed for index in each) == list(range(300))


def test_other_runs_share_nothing(tmp_path: Path, lease: HeldLease) -> None:
    with HeldLease(tmp_path, RUNS[:1]) as other:
        assert lease.claim([1], 1) == other.claim([1], 1) == [1]


def test_a_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with HeldLease(tmp_path, RUNS) as lease:
        lease.claim([1, 2], 2)
        assert files(tmp_path) == {lease.path.name, "1.claim", "2.claim"}
    assert list(tmp_path.glob("runs/.leases/*")) == []


def test_a_full_disk_leaves_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody holds would keep its image from all others for ever."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with HeldLease(tmp_path, RUNS) as other:
        with HeldLease(tmp_path, RUNS) as lease, monkeypatch.context() as disk:
            disk.setattr(os, "write", full)
            with pytest.raises(UserError, match="no space left"):
                lease.claim([1], 1)
        assert other.claim([1], 1) == [1]


def test_a_signal_amid_a_claim_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, content: bytes) -> bool:
        created(path, content)
        raise KeyboardInterrupt

    with HeldLease(tmp_path, RUNS) as other:
        with HeldLease(tmp_path, RUNS) as lease, monkeypatch.context() as signal:
            signal.setattr(leases, "created", interrupted)
            with pytest.raises(KeyboardInterrupt):
                lease.claim([1], 1)
        assert other.claim([1], 1) == [1]


def test_a_process_that_ends_waits_for_the_claim_that_another_is_writing(
    tmp_path: Path, lease: HeldLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = lease.folder / "1.claim"

    def written_meanwhile(_seconds: float) -> None:
        claim.write_text(lease.name)

    with HeldLease(tmp_path, RUNS) as other:
        claim.touch()
        monkeypatch.setattr(leases.time, "sleep", written_meanwhile)
    assert not other.path.exists()
    assert claim.exists()


def test_images_of_a_dead_process_go_to_others_at_once(tmp_path: Path, lease: HeldLease) -> None:
    dead = left_by_a_dead_process(tmp_path, 1, 2)
    assert files(tmp_path) == {f"{dead}.json", lease.path.name, "1.claim", "2.claim"}
    assert lease.claim([0, 1], 9) == [0, 1]
    assert files(tmp_path) == {lease.path.name, "0.claim", "1.claim"}


def test_elsewhere_a_process_is_dead_when_its_heart_is_silent(lease: HeldLease) -> None:
    from_elsewhere(lease, "working", 1, silent_for=leases.STALE_SECONDS - 5)
    from_elsewhere(lease, "dead", 2, silent_for=leases.STALE_SECONDS + 5)
    assert lease.claim([1, 2], 9) == [2]


def test_one_process_inherits_and_where_it_dies_too_the_next(tmp_path: Path, lease: HeldLease) -> None:
    from_elsewhere(lease, "dead", 1, 2, silent_for=100)
    (lease.folder / "dead.json").rename(lease.folder / "dead@heir.json")
    from_elsewhere(lease, "heir", silent_for=5)
    assert lease.claim([1, 2, 3], 9) == [3]
    from_elsewhere(lease, "heir", silent_for=100)
    assert lease.claim([1, 2, 3], 9) == [1, 2]
    assert files(tmp_path) == {lease.path.name, "1.claim", "2.claim", "3.claim"}


def test_a_claim_that_was_never_written_is_free_when_it_is_stale(tmp_path: Path, lease: HeldLease) -> None:
    from_elsewhere(lease, "dead", 1, silent_for=100)
    claim = lease.folder / "1.claim"
    claim.write_text("")
    assert lease.claim([1], 9) == []
    old = time.time() - 2 * leases.STALE_SECONDS
    os.utime(claim, (old, old))
    assert lease.claim([1], 9) == [1]


def test_a_process_that_was_taken_for_dead_begins_again(lease: HeldLease) -> None:
    lease.claim([1], 1)
    (lease.folder / "1.claim").write_text("another")
    lease.path.unlink()
    assert lease.claim([1, 2], 9) == [2]
    assert lease.path.exists()
    lease.release([2])
    assert (lease.folder / "1.claim").exists()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    with HeldLease(tmp_path, RUNS) as lease:
        os.utime(lease.path, (0, 0))
        late = time.monotonic() + 30
        while lease.path.stat().st_mtime == 0:
            assert time.monotonic() < late
            time.sleep(0.01)


def test_leases_say_who_is_at_work_on_what(tmp_path: Path, lease: HeldLease, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_dead_process(tmp_path, 5)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with HeldLease(tmp_path, ["run-c"]) as other:
        other.claim([7, 6], 2)
        first, second = read_leases(tmp_path)
    assert (first.pid, first.rank, first.world, first.runs, first.claimed) == (os.getpid(), 0, 1, RUNS, ())
    assert (second.rank, second.world, second.runs, second.claimed) == (1, 4, ("run-c",), (6, 7))
    assert first.since <= second.since <= time.time()
    assert abs(first.heartbeat - time.time()) < leases.STALE_SECONDS


def test_leftovers_go_after_an_hour_whoever_left_them(tmp_path: Path, lease: HeldLease) -> None:
    young, old = (lease.folder / name for name in ("8.claim", ".9.json-abc.tmp"))
    elsewhere = tmp_path / "runs/.leases/other-runs/5.claim"
    elsewhere.parent.mkdir()
    for path in (young, old, elsewhere):
        path.write_text("gone")
    hours_ago = time.time() - 2 * LEFTOVER_SECONDS
    for path in (old, elsewhere):
        os.utime(path, (hours_ago, hours_ago))
    with HeldLease(tmp_path, ["run-c"]):
        assert young.exists()
        assert not old.exists()
        assert not elsewhere.parent.exists()


def test_another_container_has_its_own_process_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a common disk and the same host name, as containers of one image have it."""
    left_by_a_dead_process(tmp_path, 1)
    with HeldLease(tmp_path, RUNS) as lease:
        monkeypatch.setattr(leases, "_this_host", lambda: "same-name other-boot pid:[1]")
        assert len(read_leases(tmp_path)) == 2
        assert lease.claim([1], 1) == []
