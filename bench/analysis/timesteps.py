"""The mIoU of methods against the timestep of the image that is read, in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from tabulate import tabulate

from segscale.errors import UserError

from ...methods.build import build_method
from ..evaluation.intervals import estimate_miou
from ..report.markdown import format_estimate
from ..report.tables import TableRow, interval_columns, table_rows
from ..runs.options import RunOptions
from ..runs.plan import build_methods
from ..tasks.task import Task
from .variants import at_best_threshold, evaluate_variants

TIMESTEPS = (20, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900)


def evaluate_timesteps(
    backbone_name: str, method_names: Sequence[str], timesteps: Sequence[float], task: Task, options: RunOptions
) -> pd.DataFrame:
    """Evaluate every method at every ``t`` in 1..1000, each image once, at one forward per timestep and prompt.

    Returns:
        One row per method and timestep: ``miou`` in percent at the best threshold with ``low`` and ``high``, and what
        was measured on.

    Raises:
        UserError: For a method whose timestep cannot be chosen.
    """
    build_methods(method_names, backbone_name, task.protocol)
    cells = [(name, timestep) for name in method_names for timestep in sorted(set(timesteps))]
    methods = []
    for name, timestep in cells:
        method = build_method(name, backbone_name, variant=f"@t{timestep:g}")
        if not hasattr(method, "timestep"):
            raise UserError(f"{name} reads no timestep of one's choice", "leave it out of --method")
        methods.append(replace(method, timestep=timestep))
    runs = evaluate_variants(backbone_name, methods, task, options)
    rows: list[dict[str, object]] = []
    for (name, timestep), run in zip(cells, runs, strict=True):
        estimate = estimate_miou(at_best_threshold(run))
        rows.append(
            {
                "backbone": run.plan.backbone.label,
                "method": name,
                **run.plan.task.columns,
                "images": len(run.counts),
                "seed": run.plan.seed,
                "timestep": timestep,
                "miou": 100 * estimate.value,
                **interval_columns(estimate),
            }
        )
    return pd.DataFrame(rows)


def best_text(table: pd.DataFrame) -> str:
    """Names the best timestep of every method, the earlier one of equals."""
    lines: list[str] = []
    for method, rows in table.groupby("method", sort=False):
        best = table_rows(rows.sort_values("miou", ascending=False, kind="stable"))[0]
        lines.append(f"best for {method}: t {best['timestep']:g}, mIoU " + _text(best))
    return "\n".join(lines)


def printable(table: pd.DataFrame) -> str:
    """One line per timestep, one column per method."""
    rows = table_rows(table)
    header = "{backbone} on {dataset} {split}, {images} images, protocol {protocol}".format(**rows[0])
    shown = table.assign(text=[_text(row) for row in rows])
    wide = shown.pivot(index="timestep", columns="method", values="text")[list(dict.fromkeys(table["method"]))]
    titles = ["t", *wide.columns]
    lines = tabulate(wide.reset_index().to_numpy().tolist(), titles, tablefmt="simple", disable_numparse=True)
    return f"{header}: mIoU at the best threshold by timestep\n{lines}"


def _text(row: TableRow) -> str:
    return format_estimate(row["miou"], row["low"], row["high"])
