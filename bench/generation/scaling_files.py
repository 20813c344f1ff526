"""Writes the files of the scaling question, and reads the one that holds all: the replicates of every backbone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from segscale.errors import StoreError, UserError
from segscale.files import explained_writes, json_checksum, replaced_bytes
from segscale.places import make_folder

from ..evaluation.metrics import Floats
from ..report.files import write_text
from .backbone_replicates import BackboneReplicates, Conditions, Resampled
from .power_record import rows_digest
from .scaling_figure import power_figure
from .scaling_tables import statistics_text

FILE_ENDING = "-replicates.parquet"
NAMES = ("{}" + FILE_ENDING, "{}.csv", "{}-statistics.csv", "{}-statistics.md", "figures/{}.png")
MEASURED, PUBLISHED = "power", "published-power"
"""How the files are called, by where the power is from."""
MIOU, POWER = "miou ", "power "
KEY = b"segscale.scaling"
DIGITS = 16
"""Of the digest of the rows."""


def write_scaling(resampled: Resampled, statistics: pd.DataFrame, results: Path) -> list[Path]:
    """Write replicates, tables as CSV files, statistics also as text, and figure; returns what was written.

    The replicates come first and hold all that the others are made of, so a kill loses nothing.

    Raises:
        UserError: Where backbones would be lost that the replicates there hold and no run here can give again, or
            where they cannot be read.
    """
    stem = PUBLISHED if resampled.conditions.is_published else MEASURED
    replicates, table, numbers, text, figure = written = [results / name.format(stem) for name in NAMES]
    _refuse_loss(resampled, replicates)
    with explained_writes(results):
        make_folder(results)
        with replaced_bytes(replicates) as file:
            pq.write_table(_replicate_table(resampled), file, compression="zstd", write_page_checksum=True)
        write_text(table, resampled.table.to_csv(index=False))
        write_text(numbers, statistics.to_csv(index=False))
        write_text(text, statistics_text(statistics) + "\n")
        power_figure(resampled.table, resampled.method_names, figure)
    return written


def _refuse_loss(resampled: Resampled, path: Path) -> None:
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            stored = {*pd.read_parquet(file, columns=["backbone"])["backbone"]}
    except (pa.ArrowException, ValueError) as error:
        raise StoreError(f"{path} is damaged", "remove it, and give the command again") from error
    kept = {backbone.name for backbone in resampled.backbones}
    lost = sorted(name for name in stored - kept if not (path.parent / "runs" / name).exists())
    if lost:
        problem = f"{path} holds {len(lost)} backbones that have no runs here, such as {lost[0]}"
        raise UserError(problem, f"keep them with --earlier {path.parent}, or remove the file")


def read_scaling(results: Path, is_published: bool) -> Resampled:
    """Read the replicates that ``write_scaling`` wrote of published or of measured power.

    Raises:
        StoreError: Where the file is missing, damaged or of another version.
    """
    path = results / f"{PUBLISHED if is_published else MEASURED}{FILE_ENDING}"
    remedy = "give another --earlier, or none"
    try:
        with path.open("rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as source:
            table = source.read()
        return _resampled(table)
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path}", remedy) from error
    except OSError as error:
        if error.errno is None:  # Arrow's own about the contents
            raise StoreError(f"{path} is damaged", remedy) from error
        raise StoreError(f"{path} cannot be read ({error.strerror})", remedy) from error
    except (pa.ArrowException, ValidationError, ValueError, KeyError) as error:
        raise StoreError(f"{path} is damaged or of another version", remedy) from error


@dataclass(frozen=True)
class _Backbone:
    name: str
    parameters: int
    row: dict[str, float | int | str | None]


@dataclass(frozen=True)
class _Contents:
    conditions: Conditions
    backbones: tuple[_Backbone, ...]
    values: str
    """Digest of the rows."""


_ADAPTER = TypeAdapter(_Contents)


def _replicate_table(resampled: Resampled) -> pa.Table:
    """A row for the sample and every replicate of every backbone; the metadata hold the rest."""
    rows = pd.concat([_rows_of(backbone) for backbone in resampled.backbones], ignore_index=True)
    backbones = [_Backbone(each.name, each.parameters, _plain(each.row)) for each in resampled.backbones]
    contents = asdict(_Contents(resampled.conditions, tuple(backbones), rows_digest(rows)[:DIGITS]))
    text = json.dumps({**contents, "checksum": json_checksum(contents)})
    return pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata({KEY: text})


def _rows_of(backbone: BackboneReplicates) -> pd.DataFrame:
    columns = _prefixed(MIOU, backbone.miou) | _prefixed(POWER, backbone.power)
    numbers = np.arange(len(next(iter(columns.values()))))
    return pd.DataFrame({"backbone": backbone.name, "replicate": numbers, **columns})


def _prefixed(prefix: str, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    return {prefix + name: values for name, values in columns.items()}


def _plain(row: Mapping[str, object]) -> dict[str, float | int | str | None]:
    """Numbers as Python's, which JSON keeps exactly; NaN as None."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {name: None if value != value else value for name, value in values.items()}  # type: ignore[misc]


def _resampled(table: pa.Table) -> Resampled:
    """Raises an error of pandas, pydantic or Arrow, ValueError or KeyError where it is none."""
    content = json.loads((table.schema.metadata or {})[KEY])
    stated = content.pop("checksum")
    contents = _ADAPTER.validate_python(content)
    rows = table.to_pandas()
    if stated != json_checksum(content) or contents.values != rows_digest(rows)[:DIGITS]:
        raise ValueError("changed")
    parts = {str(name): part for name, part in rows.groupby("backbone")}
    backbones = [
        BackboneReplicates(
            each.name,
            each.parameters,
            each.row,
            dict(_columns(parts[each.name], MIOU)),
            dict(_columns(parts[each.name], POWER)),
        )
        for each in contents.backbones
    ]
    return Resampled(contents.conditions, tuple(backbones))


def _columns(rows: pd.DataFrame, prefix: str) -> Iterator[tuple[str, Floats]]:
    """Those of a kind, without measures that the backbone lacks."""
    for name in map(str, rows):
        values = rows[name].to_numpy() if name.startswith(prefix) else np.empty(0)
        if len(values) and not np.isnan(values).all():
            yield name.removeprefix(prefix), values
