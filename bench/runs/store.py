"""Append-only store of one run: ``run.json`` and Parquet parts, safe against kills, full disks and damage.

A part is whole or absent. Images that were computed but not written yet are lost with a kill and computed again.
Nothing is locked.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from segscale.errors import OtherFormatError, StoreError, UserError
from segscale.files import explained_writes, remove_leftovers, replaced

from ...datasets.dataset import Digests
from .counts import StoredCounts
from .part_files import part_files
from .parts import (
    ImageRecord,
    PartError,
    PartRules,
    as_table,
    digests_of,
    each_image_once,
    images_of,
    read_part,
    stated_images,
    write_part,
)
from .record import REMEDY, StoredRun, parse_run, run_text

log = logging.getLogger(__name__)

RUN_FILE = "run.json"
PART_IMAGES = 500
"""In a part of a finished run: few parts, and damage to one costs no more."""
T = TypeVar("T")
_SKIPPED = TypeAdapter(dict[str, str])


class RunStore:
    """The folder of one run."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        """Name the folder, and the rank of this process among those that share the run."""
        self.folder = folder
        self.rank = rank
        self.parts = folder / "parts"
        self.files = part_files(self.parts, rank)
        self._digests: dict[tuple[str, int], dict[str, Digests]] = {}
        """Of every part that was read or written, by its name and time."""

    @property
    def _path(self) -> Path:
        return self.folder / RUN_FILE

    @cached_property
    def rules(self) -> PartRules:
        """What parts keep to; with the ids of the dataset once the run was started."""
        return PartRules.of(self.read())

    def start(self, run: StoredRun, images: Collection[str]) -> None:
        """Create the run, or check that the stored one is the same; tables read it as the last start says.

        A ``run.json`` that is missing or cannot be read is written anew: every part says itself that it is of this run.

        Args:
            run: As it is before its first image.
            images: Ids of the dataset; no other is counted.

        Raises:
            UserError: If the folder holds another run or cannot be written.
        """
        with explained_writes(self.folder):
            self.files.create()
            remove_leftovers(self.folder.glob(".*.tmp"))
            stored = self._stored(run)
            if stored.run_id != run.run_id:
                raise UserError(f"{self.folder} holds another run", "choose another --results")
            started = replace(stored, table_rules=run.table_rules, wanted=run.wanted, sources=run.sources)
            if stored != started:
                self.write(started)
        self.rules = PartRules.of(run, images)

    def _stored(self, run: StoredRun) -> StoredRun:
        """The stored run, or ``run`` where there is none that can be read."""
        if self._path.exists():
            try:
                return self.read()
            except OtherFormatError:
                raise
            except StoreError as error:
                aside = self._path.with_name(f"{RUN_FILE}.damaged")
                aside.write_bytes(self._path.read_bytes())
                log.warning("%s; it is written anew, the old one is %s", error.problem, aside.name)
        self.write(run)
        return run

    def read(self) -> StoredRun:
        """Contents of ``run.json``. Raises StoreError where it cannot be read."""
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read ({error.strerror})", REMEDY) from error
        return parse_run(text, str(self._path))

    def write(self, run: StoredRun) -> None:
        """Replace ``run.json``."""
        with explained_writes(self.folder), replaced(self._path) as file:
            file.write(run_text(run))

    def append(self, records: Sequence[ImageRecord]) -> None:
        """Write one part, durably."""
        with explained_writes(self.folder):
            self._write_part(as_table(records))

    def load(self, run: StoredRun) -> StoredCounts:
        """Counts of all images, each once, in order of their ids. Parts that must not count are named and set aside."""
        return StoredCounts.of(each_image_once(self._each_part(self._table)), run, self.rules)

    def done(self) -> frozenset[str]:
        """Ids of the stored images."""
        return frozenset(self.made_of())

    def made_of(self) -> dict[str, Digests]:
        """What each stored image was made of. A part never changes, so this store reads each but once for it."""
        stored: dict[str, Digests] = {}
        for digests in reversed(self._each_part(self._digests_of)):
            stored |= digests
        return stored

    @property
    def is_scattered(self) -> bool:
        """Whether the images would have room in fewer parts."""
        return len(self.files.paths()) > -(-len(self.done()) // PART_IMAGES)

    def compact(self) -> None:
        """Merge many parts into few, whatever other processes do and whenever a kill comes.

        The merged parts are durable before the first old one goes. Until the last one went, images are in two parts,
        of which the first counts; the last parts go first, so that it stays the same one. What an earlier merge left
        goes before all others: only where every part is a merged one does ``count`` trust their names.
        """
        if not self.is_scattered:
            return
        parts = self._each_part(self._path_and_table)
        table = each_image_once([table for _, table in parts])
        with explained_writes(self.folder):
            for first in range(0, len(table), PART_IMAGES):
                self._write_part(merged := table.slice(first, PART_IMAGES), f".{len(merged)}")
            self.files.remove(sorted([path for path, _ in reversed(parts)], key=lambda path: not stated_images(path)))

    def content(self) -> bytes | None:
        """The bytes of ``run.json``, None where it cannot be read."""
        with suppress(OSError):
            return self._path.read_bytes()
        return None

    def count(self, since: float = 0.0, wanted: int | None = None) -> int:
        """How many images are stored, unverified; ids alone are read, and none where names of merged parts tell it.

        Args:
            since: Parts that are older are left out; in seconds since 1970.
            wanted: Where merged parts hold more together, some may hold the same, and their ids are read.
        """

        def each(read: Callable[[Path], T]) -> list[T]:
            return self._each_part(lambda path: read(path) if not since or path.stat().st_mtime >= since else None)

        stated = each(stated_images)
        together, fewest = sum(stated), -(-sum(stated) // PART_IMAGES)
        if all(stated) and len(stated) == fewest and (wanted is None or together <= wanted):
            return together
        return len(frozenset[str]().union(*each(images_of)))

    def count_skipped(self) -> int:
        """How many images were left out and are not stored, unverified as of ``count``."""
        reasons = self.skipped_reasons()
        return len(reasons.keys() - frozenset[str]().union(*self._each_part(images_of))) if reasons else 0

    def skip(self, images: Mapping[str, str]) -> None:
        """Remember images of this rank that cannot be used, with the reason; those stored since are forgotten."""
        path = self.folder / f"skipped-{self.rank}.json"
        if images or path.exists():
            done = self.done()
            kept = self.skipped(self.rank) | {image: why for image, why in images.items() if image not in done}
            with explained_writes(self.folder), replaced(path) as file:
                json.dump(kept, file, indent=2)

    def skipped(self, rank: int | None = None) -> dict[str, str]:
        """Images left out and why, of one rank or of all. A damaged list is named; its images are tried again."""
        reasons = self.skipped_reasons(rank)
        # Another rank may have left out what was repaired and stored since.
        done = self.done() if reasons else frozenset[str]()
        return {image: why for image, why in reasons.items() if image not in done}

    def skipped_reasons(self, rank: int | None = None) -> dict[str, str]:
        """As ``skipped``, with images that were stored since; no part is read."""
        reasons: dict[str, str] = {}
        for path in sorted(self.folder.glob("skipped-*.json" if rank is None else f"skipped-{rank}.json")):
            try:
                reasons |= _SKIPPED.validate_json(path.read_bytes())
            except (ValidationError, OSError):
                log.warning("%s is damaged; the images that it left out will be tried again", path)
        return reasons

    def missing(self, wanted: int) -> int:
        """How many of so many images are neither stored nor left out."""
        return max(wanted - len(self.done()) - len(self.skipped()), 0)

    def _each_part(self, read: Callable[[Path], T | None]) -> list[T]:
        """What ``read`` gives of every part, without None; the list is made anew where a part goes meanwhile.

        Raises:
            StoreError: For a part that is listed and not there: a link whose target is gone.
        """
        while True:
            try:
                return [part for path in self.files.paths() if (part := read(path)) is not None]
            except FileNotFoundError:
                for path in self.files.paths():
                    if path.is_symlink() and not path.exists():
                        hint = f"bring that back, or have its images computed again: rm {shlex.quote(str(path))}"
                        raise StoreError(f"{path} is a link to a file that is gone", hint) from None

    def part_keys(self) -> list[tuple[str, int]]:
        """Tell the parts that there are from those of any other time."""
        return self._each_part(self.files.key)

    def _digests_of(self, path: Path) -> dict[str, Digests] | None:
        key = self.files.key(path)
        if key not in self._digests and self._table(path) is None:
            return None
        return self._digests[key]

    def _table(self, path: Path) -> pa.Table | None:
        """The part, or None for one that must not be counted and was set aside."""
        try:
            key = self.files.key(path)
            table = read_part(path, self.rules)
        except PartError as error:
            self._set_aside(path, error)
            return None
        except FileNotFoundError:
            raise
        except (OSError, MemoryError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise StoreError(f"{path} cannot be read ({reason})", "give the same command again") from error
        self._digests[key] = digests_of(table)
        return table

    def _path_and_table(self, path: Path) -> tuple[Path, pa.Table] | None:
        table = self._table(path)
        return None if table is None else (path, table)

    def _set_aside(self, path: Path, error: PartError) -> None:
        try:
            aside = self.files.set_aside(path)
        except FileNotFoundError:  # another process was faster
            return
        except OSError as refusal:
            log.warning("%s %s; it stays there (%s) and is not counted", path, error, refusal.strerror)
            return
        log.warning("%s %s; set aside as %s, its images will be computed again", path, error, aside.name)

    def _write_part(self, table: pa.Table, mark: str = "") -> None:
        path = self.files.write(partial(write_part, table, self.rules.run_id), mark)
        with suppress(FileNotFoundError):  # another process merged it already
            self._digests[self.files.key(path)] = digests_of(table)


def run_folders(results: Path) -> list[Path]:
    """Folders of all stored runs below ``results``, in a stable order, also without ``run.json``."""
    names = (RUN_FILE, "parts")
    return sorted({path.parent for name in names for path in (results / "runs").glob(f"*/*/*/*/{name}")})


def find_runs(results: Path) -> list[RunStore]:
    """All stored runs below ``results``, see ``run_folders``. Raises UserError for none."""
    folders = run_folders(results)
    if not folders:
        below = [str(path.parent) for path in sorted(results.glob("*/runs")) if run_folders(path.parent)]
        others = "".join(f", or see those of --results {folder}" for folder in below)
        raise UserError(f"there are no runs in {results}/runs", f"make some with: segscale bench{others}")
    return [RunStore(folder) for folder in folders]
