"""Append-only store of one run: ``run.json`` and Parquet parts, safe against kills, full disks and damage.

A part is written to a temporary name, flushed and linked to its final name, so it is whole or absent. Images
that were computed but not written yet are lost with a kill and computed again. Nothing is locked.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segscale.errors import StoreError, UserError
from segscale.files import explained_writes, replaced

from ..evaluation.pixel_counts import PixelCounts
from .counts import StoredCounts
from .record import StoredRun, parse_run, run_text

log = logging.getLogger(__name__)

LEFTOVER_SECONDS = 3600
COUNTS = ("intersection", "predicted_area", "label_area")
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        *((name, pa.list_(pa.int64())) for name in COUNTS),
    ]
)


@dataclass(frozen=True)
class ImageRecord:
    """One evaluated image."""

    image: str
    seconds: float
    """Wall time."""
    peak_bytes: int
    """Peak memory of the process or device so far."""
    counts: PixelCounts


class RunStore:
    """The folder of one run."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        """Name the folder, and the rank of this process among those that share the run."""
        self.folder = folder
        self.rank = rank
        self.parts = folder / "parts"

    def start(self, run: StoredRun) -> None:
        """Create the run, or check that the stored one is the same; tables read it by the rules of the last start.

        Raises:
            UserError: If the folder holds another run or cannot be written.
        """
        with explained_writes(self.folder):
            self.parts.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            if not (self.folder / "run.json").exists():
                self.write(run)
            stored = self.read()
            if stored.run_id != run.run_id:
                raise UserError(f"{self.folder} holds another run", "choose another --results")
            if stored.table_rules != run.table_rules:
                self.write(replace(stored, table_rules=run.table_rules))

    def read(self) -> StoredRun:
        """Contents of ``run.json``. Raises UserError where it cannot be read."""
        path = self.folder / "run.json"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror})", "run the same command again") from error
        return parse_run(text, str(path))

    def write(self, run: StoredRun) -> None:
        """Replace ``run.json``."""
        with explained_writes(self.folder), replaced(self.folder / "run.json") as file:
            file.write(run_text(run))

    def append(self, records: Sequence[ImageRecord]) -> None:
        """Write one part, durably."""
        rows = [
            {
                "image": record.image,
                "seconds": record.seconds,
                "peak_bytes": record.peak_bytes,
                **{name: getattr(record.counts, name).ravel() for name in COUNTS},
            }
            for record in records
        ]
        with explained_writes(self.folder):
            self._write_part(pa.Table.from_pylist(rows, schema=SCHEMA))

    def load(self, run: StoredRun) -> StoredCounts:
        """Counts of all images, each once, in order of their ids. Damaged parts are named and set aside."""
        tables = [table for path in self._part_files() if (table := _read_part(path)) is not None]
        return _as_counts(pa.concat_tables([SCHEMA.empty_table(), *tables]), run)

    def done(self) -> frozenset[str]:
        """Ids of the stored images."""
        tables = [table for path in self._part_files() if (table := _read_part(path, ["image"])) is not None]
        return frozenset(image for table in tables for image in table["image"].to_pylist())

    def skip(self, images: Mapping[str, str]) -> None:
        """Remember images of this rank that cannot be used, with the reason; those stored since are forgotten."""
        path = self.folder / f"skipped-{self.rank}.json"
        if images or path.exists():
            done = self.done()
            kept = {image: why for image, why in {**self.skipped(self.rank), **images}.items() if image not in done}
            with explained_writes(self.folder), replaced(path) as file:
                json.dump(kept, file, indent=2)

    def skipped(self, rank: int | None = None) -> dict[str, str]:
        """Images left out and why, of one rank or of all."""
        reasons: dict[str, str] = {}
        for path in sorted(self.folder.glob("skipped-*.json" if rank is None else f"skipped-{rank}.json")):
            reasons |= json.loads(path.read_text(encoding="utf-8"))
        return reasons

    def _part_files(self) -> list[Path]:
        return sorted(self.parts.glob("*.parquet"))

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed processes; young ones may belong to a running one."""
        for path in self.parts.glob(f".{self.rank}-*.tmp"):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink(missing_ok=True)

    def _write_part(self, table: pa.Table) -> None:
        temporary = self.parts / f".{self.rank}-{token_hex(8)}.tmp"
        try:
            with temporary.open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            for path in self._free_names():
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    continue
                _flush_folder(self.parts)
                return
        finally:
            temporary.unlink(missing_ok=True)

    def _free_names(self) -> Iterator[Path]:
        taken = [int(path.name.split(".")[0].split("-")[1]) for path in self.parts.glob(f"{self.rank}-*.parquet*")]
        sequence = max(taken, default=-1)
        while True:
            sequence += 1
            yield self.parts / f"{self.rank}-{sequence:06d}.parquet"


def find_runs(results: Path) -> list[RunStore]:
    """All stored runs below ``results``, in a stable order. Raises UserError where there is none."""
    folders = sorted(path.parent for path in (results / "runs").glob("*/*/*/*/run.json"))
    if not folders:
        raise UserError(f"there are no runs in {results}/runs", "make some with: segscale bench")
    return [RunStore(folder) for folder in folders]


def _as_counts(table: pa.Table, run: StoredRun) -> StoredCounts:
    """Rows by id, each id once."""
    images = table["image"].to_pylist()
    _, rows = np.unique(np.array(images, dtype=object), return_index=True)
    thresholds = run.plan.task.protocol.thresholds
    counts = {name: table[name].combine_chunks().flatten().to_numpy() for name in COUNTS}
    swept = (len(images), len(thresholds), len(run.classes))
    return StoredCounts(
        images=tuple(images[row] for row in rows),
        thresholds=thresholds,
        intersection=counts["intersection"].reshape(swept)[rows],
        predicted_area=counts["predicted_area"].reshape(swept)[rows],
        label_area=counts["label_area"].reshape(len(images), len(run.classes))[rows],
        seconds=table["seconds"].to_numpy()[rows],
        peak_bytes=table["peak_bytes"].to_numpy()[rows],
    )


def _flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_part(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    """The part, or None for one that is damaged and was set aside."""
    try:
        return pq.read_table(path, schema=SCHEMA, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        # The file system's own errors carry a number; Arrow's about the contents do not.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} cannot be read ({error.strerror})", "run the same command again") from error
        aside = path.with_suffix(".parquet.damaged")
        with suppress(FileNotFoundError):  # another process was faster
            path.replace(aside)
        log.warning("%s is damaged (%s); set aside as %s, its images will be computed again", path, error, aside.name)
        return None
