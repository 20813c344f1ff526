"""Append-only store of one run: ``run.json`` and Parquet parts, safe against kills, full disks and damage.

A part is written to a temporary name, flushed and linked to its final name, so it is whole or absent. Images
that were computed but not written yet are lost with a kill and computed again. Nothing is locked.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from segscale.errors import UserError
from segscale.files import explained_writes, replaced

from ..evaluation.metrics import ImageAreas, best_threshold
from ..evaluation.pixel_counts import Areas
from ..tasks.protocol import BEST, Averaging
from .identity import Plan

log = logging.getLogger(__name__)

LEFTOVER_SECONDS = 3600
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("intersection", pa.list_(pa.int64())),
        ("prediction", pa.list_(pa.int64())),
        ("label", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class Record:
    """One evaluated image. seconds: wall time; peak_bytes: peak memory of the process or device so far."""

    image: str
    seconds: float
    peak_bytes: int
    areas: Areas


class RunStore:
    """The folder of one run. rank: of this process among those that share the run."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.rank = rank
        self.parts = folder / "parts"

    def start(self, plan: Plan, metadata: dict[str, Any]) -> None:
        """Create the run, or check that the stored one is the same. ``metadata`` is informative only."""
        with explained_writes(self.folder):
            self.parts.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            if (self.folder / "run.json").exists():
                if self.read()["identity"] != plan.identity:
                    raise UserError(f"{self.folder} holds another run", "remove it or choose another --results")
                return
            self._write_json({"identity": plan.identity, "plan": asdict(plan)} | metadata)

    def read(self) -> dict[str, Any]:
        """Contents of ``run.json``."""
        try:
            return json.loads((self.folder / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.folder}/run.json cannot be read ({error})", "remove the folder and run again"
            ) from error

    def plan(self) -> Plan:
        return Plan(**self.read()["plan"])

    def update(self, **fields: Any) -> None:
        with explained_writes(self.folder):
            self._write_json(self.read() | fields)

    def append(self, records: list[Record]) -> None:
        """Write one part, durably."""
        rows = [
            {
                "image": record.image,
                "seconds": record.seconds,
                "peak_bytes": record.peak_bytes,
                "intersection": record.areas.intersection.ravel(),
                "prediction": record.areas.prediction.ravel(),
                "label": record.areas.label,
            }
            for record in records
        ]
        with explained_writes(self.folder):
            self._write_part(pa.Table.from_pylist(rows, schema=SCHEMA))

    def load(self) -> pd.DataFrame:
        """All images, each once, in order of their ids. Damaged parts are named and set aside."""
        frames = [frame for path in sorted(self.parts.glob("*.parquet")) if (frame := _read_part(path)) is not None]
        if not frames:
            return SCHEMA.empty_table().to_pandas()
        return pd.concat(frames).drop_duplicates("image").sort_values("image", ignore_index=True)

    def done(self) -> frozenset[str]:
        """Ids of the stored images."""
        return frozenset(self.load()["image"])

    def skip(self, images: Mapping[str, str]) -> None:
        """Remember images of this rank that cannot be used, with the reason."""
        if images or self.skipped():
            done = self.done()
            kept = {image: why for image, why in {**self.skipped(self.rank), **images}.items() if image not in done}
            with explained_writes(self.folder):
                self._write_json(kept, f"skipped-{self.rank}.json")

    def skipped(self, rank: int | None = None) -> dict[str, str]:
        """Images left out and why, of one rank or of all."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("skipped-*.json" if rank is None else f"skipped-{rank}.json")):
            found |= json.loads(path.read_text())
        return found

    def _remove_leftovers(self) -> None:
        """Temporary files of killed processes; young ones may belong to a running one."""
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

    def _write_json(self, content: Mapping[str, Any], name: str = "run.json") -> None:
        with replaced(self.folder / name) as file:
            json.dump(content, file, indent=2)


def _flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_part(path: Path) -> pd.DataFrame | None:
    try:
        return pq.read_table(path, schema=SCHEMA).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        # The file system's own errors carry a number; Arrow's about the contents do not.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} cannot be read ({error.strerror})", "run the same command again") from error
        aside = path.with_suffix(".parquet.damaged")
        with suppress(FileNotFoundError):  # another process was faster
            path.replace(aside)
        log.warning("%s is damaged (%s); set aside as %s, its images will be computed again", path, error, aside.name)
        return None


def image_areas(run: Mapping[str, Any], frame: pd.DataFrame, index: int) -> ImageAreas:
    """Areas of a run's images at one stored threshold."""
    return ImageAreas(*areas_at(frame, index, len(run["classes"])))


def swept_areas(run: Mapping[str, Any], frame: pd.DataFrame) -> list[ImageAreas]:
    """Areas of a run's images at every stored threshold."""
    return [image_areas(run, frame, index) for index in range(len(run["plan"]["protocol"]["thresholds"]))]


def chosen_areas(
    run: Mapping[str, Any], frame: pd.DataFrame, threshold: float | str, averaging: Averaging
) -> tuple[float, ImageAreas]:
    """The stored threshold, or the best one, and the areas there."""
    thresholds = run["plan"]["protocol"]["thresholds"]
    if threshold == BEST:
        sweep = swept_areas(run, frame)
        index = best_threshold(sweep, averaging)
        return thresholds[index], sweep[index]
    index = thresholds.index(threshold)
    return thresholds[index], image_areas(run, frame, index)


def areas_at(frame: pd.DataFrame, threshold_index: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection, prediction and label, int64 ``(images, classes)``, at one stored threshold."""
    columns = slice(threshold_index * classes, (threshold_index + 1) * classes)
    intersection, prediction = (
        np.stack([np.asarray(row, np.int64)[columns] for row in frame[name]]) for name in ("intersection", "prediction")
    )
    return intersection, prediction, np.stack([np.asarray(row, np.int64) for row in frame["label"]])
