"""Writes the files of the scaling question, and reads those of an earlier one, whose backbones then join."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from segscale.errors import UserError
from segscale.files import explained_writes, replaced_bytes
from segscale.places import make_folder

from ...backbones.pocket.ladder import family_of
from ..report.files import write_text
from ..report.tables import table_rows
from .replicates import BackboneReplicates
from .scaling_figure import power_figure
from .scaling_tables import statistics_text

TABLE, STATISTICS, TEXT, REPLICATES, FIGURE = NAMES = (
    "power.csv",
    "power-statistics.csv",
    "power-statistics.md",
    "power-replicates.parquet",
    "figures/power.png",
)
MIOU, POWER = "miou ", "power "
LABELS = ("dataset", "protocol", "images", "pictures")
"""What backbones must share, the same in every row of one."""
REMEDY = "give another --earlier, or none"


@dataclass(frozen=True)
class Scaled:
    """What the scaling question is asked of."""

    table: pd.DataFrame
    """A row per backbone, as of ``subject_table``."""
    backbones: list[BackboneReplicates]
    """In the order of the rows."""


def write_scaling(scaled: Scaled, statistics: pd.DataFrame, method_names: Sequence[str], results: Path) -> list[Path]:
    """Write the tables as CSV files, the statistics also as text, replicates and figure; returns what was written."""
    paths = {name: results / name for name in NAMES}
    with explained_writes(results):
        make_folder(results)
        with replaced_bytes(paths[REPLICATES]) as file:
            _replicate_table(scaled.backbones).to_parquet(file, index=False, compression="zstd")
        write_text(paths[TABLE], scaled.table.to_csv(index=False))
        write_text(paths[STATISTICS], statistics.to_csv(index=False))
        write_text(paths[TEXT], statistics_text(statistics) + "\n")
        power_figure(scaled.table, method_names, paths[FIGURE])
    return [*paths.values()]


def _replicate_table(backbones: Sequence[BackboneReplicates]) -> pd.DataFrame:
    """A row for the sample and every replicate of every backbone."""
    return pd.concat([_rows_of(backbone) for backbone in backbones], ignore_index=True)


def _rows_of(backbone: BackboneReplicates) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "backbone": backbone.name,
            **{name: getattr(backbone, name) for name in LABELS},
            "replicate": np.arange(backbone.drawn),
            **{MIOU + name: values for name, values in backbone.miou.items()},
            **{POWER + name: values for name, values in backbone.power.items()},
        }
    )


def read_scaling(folder: Path, method_names: Sequence[str]) -> Scaled:
    """Read what ``write_scaling`` wrote to a folder.

    Raises:
        UserError: Where a file is missing, damaged or not of the same command as the other, or a method is missing.
    """
    try:
        with (folder / TABLE).open("rb") as file:
            table = pd.read_csv(file, float_precision="round_trip").fillna({"varied": ""})
        with (folder / REPLICATES).open("rb") as file:
            replicates = pd.read_parquet(file)
        if missing := [name for name in method_names if MIOU + name not in replicates]:
            raise UserError(f"the backbones of {folder} have no runs of {missing[0]}", REMEDY)
        backbones = [*_backbones(table, replicates, method_names)]
    except OSError as error:
        raise UserError(f"{folder} has no {TABLE} with {REPLICATES} ({error.strerror or error})", REMEDY) from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise UserError(f"{TABLE} and {REPLICATES} in {folder} are damaged or not of one command", REMEDY) from error
    return Scaled(table, backbones)


def _backbones(
    table: pd.DataFrame, replicates: pd.DataFrame, method_names: Sequence[str]
) -> Iterator[BackboneReplicates]:
    """Those of every row. Raises ValueError or KeyError where the replicates are not of this table."""
    rows_of = {str(name): rows for name, rows in replicates.groupby("backbone")}
    measures = [name.removeprefix(POWER) for name in map(str, replicates) if name.startswith(POWER)]
    if {*rows_of} != {*table["backbone"]}:
        raise ValueError("other backbones")
    for row in table_rows(table):
        rows = rows_of[str(row["backbone"])].sort_values("replicate")
        miou = {name: rows[MIOU + name].to_numpy(float) for name in method_names}
        power = {name: rows[POWER + name].to_numpy(float) for name in measures}
        power = {name: values for name, values in power.items() if not np.isnan(values).all()}
        if not all(np.isclose(row[name], values[0]) for name, values in (miou | power).items() if name in row):
            raise ValueError("other numbers")
        labels = {name: str(rows[name].iloc[0]) for name in LABELS}
        yield BackboneReplicates(str(row["backbone"]), int(row["parameters"]), miou=miou, power=power, **labels)


def joined(scaled: Scaled, earlier: Scaled) -> Scaled:
    """Both together; of a backbone that is in both, the first.

    Raises:
        UserError: Where they are of other images, pictures or numbers of replicates.
    """
    names = [backbone.name for backbone in scaled.backbones]
    backbones = [*scaled.backbones, *(each for each in earlier.backbones if each.name not in names)]
    for what in ("images", "pictures", "drawn"):
        found = sorted({str(getattr(backbone, what)) for backbone in backbones})
        if len(found) > 1:
            kind = "numbers of replicates" if what == "drawn" else what
            raise UserError(f"the earlier backbones are of other {kind} ({'; '.join(found)})", REMEDY)
    rows = pd.concat([scaled.table, earlier.table[~earlier.table["backbone"].isin(names)]], ignore_index=True)
    order = sorted(range(len(backbones)), key=lambda place: (family_of(backbones[place].name), backbones[place].name))
    return Scaled(rows.iloc[order].reset_index(drop=True), [backbones[place] for place in order])
