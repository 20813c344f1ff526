"""The stored measurement of generative power: a JSON file with checks, and a row for every picture beside it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from segscale.errors import StoreError
from segscale.files import explained_writes, json_checksum, replaced, replaced_bytes

from ..evaluation.intervals import Estimate
from ..evaluation.metrics import Floats
from .record import PicturePlan

log = logging.getLogger(__name__)

FOLDER = "power"
NETWORK_OF = {"fid": "inception", "clip_score": "clip"}
"""Which of the networks that are named gives a measure."""
REMEDY = "measure again with: segscale power"


@dataclass(frozen=True)
class Measure:
    """One number of a set of pictures."""

    value: float
    low: float | None
    """Lower end of the 95 % interval over pictures; None where the sample carries none."""
    high: float | None
    by_chance: float | None = None
    """What pictures that follow no caption would get."""
    floor: float | None = None
    """What as many real images get."""
    no_interval: str | None = None
    """Why there is no interval."""

    @classmethod
    def of(cls, estimate: Estimate, by_chance: float | None = None, floor: float | None = None) -> Measure:
        """Keep an estimate with what to compare it with."""
        low, high = (None, None) if estimate.no_interval else estimate.bounds
        return cls(estimate.value, low, high, by_chance, floor, estimate.no_interval)


@dataclass(frozen=True)
class PowerRecord:
    """The generative power of a backbone, as measured on the pictures of one plan."""

    plan: PicturePlan
    plan_id: str
    parameters: int | None
    """Of the denoiser."""
    images: int
    """How many pictures; Frechet distances of other numbers do not compare."""
    measured_by: dict[str, str]
    """Networks that looked at the pictures, and the digests of their weights; CLIP's folder or hub id."""
    measures: dict[str, Measure]
    pictures_digest: str
    """SHA-256 of the rows of all pictures."""


@dataclass(frozen=True)
class StoredPower:
    """A record with its rows, one per picture; docs/results.md names the columns."""

    record: PowerRecord
    pictures: pd.DataFrame


def stored_features(pictures: pd.DataFrame) -> Floats:
    """The pooled latents in the rows of ``StoredPower``, ``(pictures, 64)``."""
    return pictures[[name for name in pictures.columns if name.startswith("feature_")]].to_numpy(float)


_ADAPTER = TypeAdapter(PowerRecord)
_CHECKSUM = "checksum"


def power_path(results: Path, plan: PicturePlan, images: int) -> Path:
    """Where the measurement of so many pictures is stored."""
    return results / FOLDER / plan.backbone.name / f"{plan.plan_id}-{images}.json"


def rows_digest(rows: pd.DataFrame) -> str:
    """SHA-256 of rows, as CSV."""
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def write_power(results: Path, stored: StoredPower) -> Path:
    """Write rows, then record, each whole or not at all; returns the record's path.

    What another network said of the same pictures is kept.
    """
    path = power_path(results, stored.record.plan, stored.record.images)
    stored = _with_other_networks(stored, path)
    record = stored.record
    content = _ADAPTER.dump_python(record, mode="json")
    with explained_writes(results):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_bytes(path.with_suffix(".parquet")) as file:
            stored.pictures.to_parquet(file, index=False)
        with replaced(path) as file:
            json.dump(content | {_CHECKSUM: json_checksum(content)}, file, indent=2)
    return path


def _with_other_networks(stored: StoredPower, path: Path) -> StoredPower:
    """With the measures that are at ``path`` and are by networks which did not measure now."""
    try:
        before = read_power(path) if path.exists() else stored
    except StoreError as error:
        log.warning("%s: replaced", error.problem)
        return stored
    new, old = stored.record, before.record
    kept = {
        name: measure for name, measure in old.measures.items() if NETWORK_OF.get(name) not in {None, *new.measured_by}
    }
    for name in old.measures.keys() & new.measures:
        network = NETWORK_OF.get(name, "judge")
        if (other := old.measured_by[network]) != new.measured_by[network]:
            log.warning("%s of %s by %s is replaced", name, old.plan.backbone.name, other)
    if not kept or before.pictures["id"].tolist() != stored.pictures["id"].tolist():
        return stored
    others = before.pictures.drop(columns=[name for name in before.pictures if name in stored.pictures])
    pictures = pd.concat([stored.pictures, others], axis=1)
    record = replace(
        new,
        measured_by={NETWORK_OF[name]: old.measured_by[NETWORK_OF[name]] for name in kept} | new.measured_by,
        measures=kept | new.measures,
        pictures_digest=rows_digest(pictures),
    )
    return StoredPower(record, pictures)


def read_power(path: Path) -> StoredPower:
    """Read a measurement.

    Raises:
        StoreError: Where one of its two files is missing, damaged or changed.
    """
    try:
        content = json.loads(path.read_bytes())
        stated = content.pop(_CHECKSUM, None)
        record = _ADAPTER.validate_python(content)
        with path.with_suffix(".parquet").open("rb") as file:
            pictures = pd.read_parquet(file)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})", REMEDY) from error
    except (ValidationError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged or of another version", REMEDY) from error
    if stated != json_checksum(content) or record.pictures_digest != rows_digest(pictures):
        raise StoreError(f"{path} is not as it was written", REMEDY)
    if record.plan_id != record.plan.plan_id:
        raise StoreError(f"{path} is of another version", REMEDY)
    return StoredPower(record, pictures)


def find_power(results: Path) -> list[StoredPower]:
    """Read all measurements below ``results``, in a stable order; one that cannot be read is named and passed over."""
    stored: list[StoredPower] = []
    for path in sorted((results / FOLDER).glob("*/*.json")):
        try:
            stored.append(read_power(path))
        except StoreError as error:
            log.warning("%s", error)
    return stored
