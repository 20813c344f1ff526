"""Leases: processes that do the same work notice each other and share its images.

A lease is a file of one process, whose modification time is its heartbeat. A claim is a file that only one process can
create; it says which lease holds an image, until the image is stored. A dead lease is renamed, which only one process
can do, and that one removes its claims. Nothing is locked, and no number depends on it: an image that two processes
computed counts once. Of the disk, only that creating and renaming are atomic is assumed; in an object store, where
renaming is not, two may bury a dead lease and then compute an image twice.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from secrets import token_hex
from types import TracebackType

from pydantic import TypeAdapter, ValidationError

from segscale.files import explained_writes, remove_leftovers, replaced
from segscale.places import children, created, make_folder, passed_over_where_away, remove_folder, touch

from .identity import IDENTITY_LENGTH
from .launcher import rank_and_world

FOLDER = ".leases"
"""Beside the folders of backbones."""
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A lease whose heart has not beaten for so long is that of a dead process; others take its images."""
LAST_LOOKS, LOOK_SECONDS = 25, 0.02
"""How often a process that ends looks whether a claim that has no holder yet is its own: its lease stays meanwhile."""
LEASE, CLAIM = ".json", ".claim"
HEIR = "@"
"""In the name of a dead lease, before the name of the lease that removes its claims."""


@dataclass(frozen=True)
class Lease:
    """A process at work on some runs."""

    host: str
    """The machine, as ``_this_host`` names it."""
    pid: int
    rank: int
    world: int
    """Number of the launcher's processes."""
    since: float
    """When it began, in seconds since 1970."""
    runs: tuple[str, ...]
    """Run ids."""
    heartbeat: float = 0.0
    """When its heart beat last, by the disk's clock."""
    claimed: tuple[int, ...] = ()
    """Images in hand, by their place in the dataset."""

    @property
    def rank_text(self) -> str:
        """The process, as a sentence names it."""
        return f"rank {self.rank} of {self.world}"

    def is_live(self, now: float) -> bool:
        """Whether the process is at work; ``now`` is by the disk's clock."""
        if self.host == _this_host() and _has_ended(self.pid):
            return False
        return now - self.heartbeat < STALE_SECONDS


_ADAPTER = TypeAdapter(Lease)


def read_leases(results: Path) -> list[Lease]:
    """Leases of all processes at work on runs below ``results``, the oldest first."""
    now = time.time()
    leases: list[Lease] = []
    for path in (results / "runs" / FOLDER).glob(f"*/*{LEASE}"):
        lease = _read_lease(path)
        if lease is not None and HEIR not in path.stem and lease.is_live(now):
            claims = [claim for claim in path.parent.glob(f"*{CLAIM}") if _holder(claim) == path.stem]
            leases.append(replace(lease, claimed=tuple(sorted(int(claim.stem) for claim in claims))))
    return sorted(leases, key=lambda lease: lease.since)


def leases_on(folder: Path) -> list[Lease]:
    """Leases of all processes at work on the run that is stored in ``folder``."""
    results = folder.parents[4]  # runs/<backbone>/<method>/<dataset>/<run id>
    return [lease for lease in read_leases(results) if folder.name in lease.runs]


class HeldLease:
    """This process's lease on runs, from entering the context to leaving it."""

    def __init__(self, results: Path, runs: Iterable[str]) -> None:
        """Name the runs, which are computed together. Processes that name the same runs share their images."""
        self.runs = tuple(sorted(runs))
        key = hashlib.sha256(" ".join(self.runs).encode()).hexdigest()[:IDENTITY_LENGTH]
        self.folder = results / "runs" / FOLDER / key
        self.name = token_hex(8)
        self.path = self.folder / f"{self.name}{LEASE}"
        self._ended = threading.Event()

    @property
    def is_shared(self) -> bool:
        """Whether other processes are at work on these runs, or ended without tidying up."""
        return self.folder.exists()

    def __enter__(self) -> HeldLease:
        with explained_writes(self.folder):
            _remove_leftovers(self.folder.parent)
            self._begin()
        # Not by the loop over images: one of them, or loading weights, may take longer than a lease lives.
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with passed_over_where_away():  # or others are at work, and the folder is not empty
            now = self.path.stat().st_mtime if self.path.exists() else 0.0
            for _ in range(LAST_LOOKS):
                if self._remove_claims(self.name, now):
                    self.path.unlink(missing_ok=True)
                    break
                time.sleep(LOOK_SECONDS)
            remove_folder(self.folder)

    def claim(self, indices: Sequence[int], most: int) -> list[int]:
        """At most so many images of ``indices`` that no other process holds; this one holds them from now on.

        Some may have been stored before they were claimed.
        """
        with explained_writes(self.folder):
            names = self._living_names()
            free = (index for index in indices if f"{index}{CLAIM}" not in names and self._create_claim(index))
            return list(islice(free, most))

    def release(self, indices: Iterable[int]) -> None:
        """Let go of images that are stored, or will not be."""
        for index in indices:
            self._claim_path(index).unlink(missing_ok=True)

    def _begin(self) -> None:
        rank, world = rank_and_world()
        lease = Lease(_this_host(), os.getpid(), rank, world, time.time(), self.runs)
        while not self.path.exists():
            make_folder(self.folder)
            with suppress(FileNotFoundError), replaced(self.path) as file:  # the last one out removed the folder
                file.write(_ADAPTER.dump_json(lease, exclude={"heartbeat", "claimed"}).decode())

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with passed_over_where_away():  # for a moment
                touch(self.path)

    def _living_names(self) -> set[str]:
        """Names of all files, once the claims of dead processes are gone."""
        names = self._names()
        if self.path.name not in names:  # this process stood still so long that others took it for dead
            self._begin()
        now = self.path.stat().st_mtime
        leases = [name.removesuffix(LEASE) for name in names if name.endswith(LEASE) and name != self.path.name]
        dead = [name for name in leases if not self._is_live(name, now)]
        for name in dead:
            self._bury(name, now)
        return self._names() if dead else names

    def _names(self) -> set[str]:
        return {path.name for path in children(self.folder)}  # others ended, and the last one removed the folder

    def _is_live(self, name: str, now: float) -> bool:
        """Whether the process is at work, or whoever removes its claims; this one removes them now."""
        heir = name.rpartition(HEIR)[2]
        lease = _read_lease(self.folder / f"{heir}{LEASE}")
        return heir != self.name and lease is not None and lease.is_live(now)

    def _bury(self, name: str, now: float) -> None:
        """Remove a dead lease and its claims, unless another process was faster."""
        dead = name.partition(HEIR)[0]
        path = self.folder / f"{dead}{HEIR}{self.name}{LEASE}"
        try:
            (self.folder / f"{name}{LEASE}").rename(path)
        except FileNotFoundError:
            return
        if self._remove_claims(dead, now):
            path.unlink()

    def _remove_claims(self, name: str, now: float) -> bool:
        """Remove what a lease holds; False while another claim may be its, for so long the lease must stay.

        No list of one's own is asked: a signal may come between a claim and the list.
        """
        claims = {claim: _holder(claim) for claim in self.folder.glob(f"*{CLAIM}")}
        unwritten = {claim for claim, holder in claims.items() if holder == ""}
        stale = {claim for claim in unwritten if _age(claim, now) > STALE_SECONDS}
        for claim in stale | {claim for claim, holder in claims.items() if holder == name}:
            claim.unlink(missing_ok=True)
        return unwritten == stale

    def _create_claim(self, index: int) -> bool:
        return created(self._claim_path(index), self.name.encode())

    def _claim_path(self, index: int) -> Path:
        return self.folder / f"{index}{CLAIM}"


def _read_lease(path: Path) -> Lease | None:
    """The lease, or None for one that ended or is damaged."""
    try:
        return replace(_ADAPTER.validate_json(path.read_bytes()), heartbeat=path.stat().st_mtime)
    except (OSError, ValidationError):
        return None


def _holder(claim: Path) -> str | None:
    """The name of the lease that holds the claim, empty while it is being written, None for one that is gone."""
    with suppress(FileNotFoundError):
        return claim.read_bytes().decode("ascii")
    return None


def _age(path: Path, now: float) -> float:
    with suppress(FileNotFoundError):
        return now - path.stat().st_mtime
    return 0.0


def _this_host() -> str:
    """The machine since it started, and on it the container: within these, a process has one number."""
    name = platform.node()
    with suppress(OSError):  # other systems than Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        name = f"{name} {boot} {Path('/proc/self/ns/pid').readlink()}"
    return name


def _has_ended(pid: int) -> bool:
    """Whether no process of this machine has the number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _remove_leftovers(folder: Path) -> None:
    remove_leftovers(folder.glob("*/*"))
    for path in folder.glob("*"):
        with suppress(OSError):  # in use
            remove_folder(path)
