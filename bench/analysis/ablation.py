"""Ablation of a method: one of its choices exchanged at a time, every other as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import pandas as pd

from ...methods.build import build_method
from ...methods.head_weights import HEAD_WEIGHTINGS
from ...methods.layer_weights import LayerMeasure
from ...methods.method import Method
from ...methods.rescaling import RESCALINGS, WordRule
from ..evaluation.comparisons import holm
from ..evaluation.intervals import Sample, estimate_difference, estimate_miou
from ..report.markdown import format_estimate, markdown_table
from ..report.tables import TableRow, interval_columns, percent_columns, table_rows
from ..runs.options import RunOptions
from ..tasks.task import Task
from .variants import at_best_threshold, evaluate_variants

AS_IT_IS = "-"
SIGNIFICANT = 0.05
DIFFERENCE_MARK = "*"
CHOICES: Mapping[str, Sequence[object]] = MappingProxyType(
    {
        "heads": tuple(HEAD_WEIGHTINGS),
        "layers": ("uniform", *get_args(LayerMeasure)),
        "rescaling": RESCALINGS,
        "words": get_args(WordRule),
        "normalise_words": (False, True),
        "normalise_classes": (False, True),
    }
)
"""By a method's field: what it can be. All variants read the same forward."""
VANILLA = MappingProxyType({"heads": "average", "layers": "uniform", "rescaling": "min-max"})
"""What GoCA's three parts are without it."""


@dataclass(frozen=True)
class AblatedCell:
    """A variant of a method."""

    method: Method
    axis: str
    """The field that was exchanged, ``alone`` where all but one are as in vanilla, ``-`` for the method itself."""
    value: str
    """What it became."""


def ablated_cells(method_name: str, backbone_name: str, timestep: float | None = None) -> Iterator[AblatedCell]:
    """The method itself, then every other value of each field, then each of GoCA's parts alone and none of them."""
    chosen = {} if timestep is None else {"timestep": timestep}
    # Not the config's own method, so that no cell has a calibrated threshold that the others lack.
    base = build_method(method_name, backbone_name, variant="@ablated", **chosen)
    yield AblatedCell(base, AS_IT_IS, method_name)
    own = {field.name: getattr(base, field.name) for field in fields(base)}
    for field, values in CHOICES.items():
        for value in values if field in own else ():
            if value != own[field]:
                yield _cell(base, field, str(value), {field: value})
    if own.keys() >= VANILLA.keys():
        yield _cell(base, "alone", "none of them", VANILLA)
        for part in VANILLA:
            yield _cell(base, "alone", part, {field: VANILLA[field] for field in VANILLA if field != part})


def _cell(base: Method, axis: str, value: str, exchanged: Mapping[str, Any]) -> AblatedCell:
    return AblatedCell(replace(base, variant=f"@{axis}={value}", **exchanged), axis, value)


def ablate(cells: Sequence[AblatedCell], backbone_name: str, task: Task, options: RunOptions) -> pd.DataFrame:
    """Evaluate all cells in one pass over the images, the first being what the others are compared with.

    Cells of equal methods are evaluated, and counted by Holm's correction, once.

    Returns:
        One row per cell in percent: ``miou`` at its best threshold with ``low`` and ``high``, what the exchange adds as
        ``difference`` with ``difference_low`` and ``difference_high``, its p-value by
        Holm's correction, and what was measured on.
    """
    distinct: dict[Method, Method] = {}
    for cell in cells:
        distinct.setdefault(replace(cell.method, variant=""), cell.method)
    runs = evaluate_variants(backbone_name, [*distinct.values()], task, options)
    samples = [at_best_threshold(run) for run in runs]
    first = runs[0].plan
    facts = {
        "backbone": first.backbone.label,
        "method": first.method.name,
        **first.task.columns,
        "images": len(runs[0].counts),
        "seed": first.seed,
    }
    numbers = pd.DataFrame([_numbers(sample, samples[0]) for sample in samples])
    # The first cell is compared with itself, which is no question.
    numbers = numbers.assign(p_value=[np.nan, *holm(numbers["p_value"].tolist()[1:])])
    numbers_of = dict(zip(distinct, table_rows(numbers), strict=True))
    rows = [
        {**facts, "axis": cell.axis, "value": cell.value, **numbers_of[replace(cell.method, variant="")]}
        for cell in cells
    ]
    return pd.DataFrame(rows)


def _numbers(sample: Sample, reference: Sample) -> dict[str, object]:
    miou, difference = estimate_miou(sample), estimate_difference(sample, reference)
    return {
        "miou": 100 * miou.value,
        **interval_columns(miou),
        **percent_columns("difference", difference),
        "p_value": difference.p_value,
    }


def printable(table: pd.DataFrame) -> str:
    """Markdown: one line per cell, mIoU and what the exchange adds, in points."""
    rows = table_rows(table)
    header = "{method} on {backbone}, {dataset} {split}, {images} images, protocol {protocol}".format(**rows[0])
    shown = pd.DataFrame([_shown(row) for row in rows])
    header = f"{header}: one choice exchanged, each at its best threshold"
    note = f"{DIFFERENCE_MARK} A difference among all of the table (paired jackknife, Holm's correction, 5 %)."
    return f"{header}\n\n{markdown_table(shown)}\n\n{note}"


def _shown(row: TableRow) -> dict[str, str]:
    real = DIFFERENCE_MARK if row["p_value"] < SIGNIFICANT else ""
    added = format_estimate(row["difference"], row["difference_low"], row["difference_high"], "+.1f", real)
    return {
        "what": row["axis"],
        "value": row["value"],
        "mIoU [95 %]": format_estimate(row["miou"], row["low"], row["high"]),
        "adds": "" if row["axis"] == AS_IT_IS else added,
    }
