"""Measurements of power in print."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabulate import tabulate

from ..report.markdown import format_estimate
from ..report.tables import TableRow
from .power_record import Measure, PowerRecord

NO_SHARES = ("frechet", "fid", "clip_score")
"""Shown as they are; all other measures are shares, like mIoU, and are shown in percent."""


def unit_of(measure_name: str) -> int:
    """What a measure is multiplied by where it is shown."""
    return 1 if measure_name in NO_SHARES else 100


def spec_of(measure_name: str) -> str:
    """The decimals with which a measure is shown."""
    return ".2f" if measure_name in NO_SHARES else ".1f"


def in_percent(name: str, measure: Measure) -> tuple[float, float | None, float | None]:
    """Value and ends of the interval, shares in percent and all others as they are."""
    unit = unit_of(name)
    low, high = (None if end is None else unit * end for end in (measure.low, measure.high))
    return unit * measure.value, low, high


def format_columns(row: TableRow, columns: Sequence[str], spec: str) -> str:
    """Value and interval that a row has in three columns; nothing where it has no value."""
    numbers = (row.get(column) for column in columns)
    value, low, high = (math.nan if number is None else float(number) for number in numbers)
    return "" if math.isnan(value) else format_estimate(value, low, high, spec)


def power_text(record: PowerRecord) -> str:
    """One line per measure: value, interval, and what to compare it with."""
    settings = record.plan.settings
    drawn = f"{settings.guidance_method} {settings.guidance:g}, {settings.steps} steps, seed {settings.seed}"
    header = f"{record.plan.backbone.label} on {record.images} captions of {record.plan.prompts}, {drawn}"
    rows = [
        (name, format_measure(name, measure), _compared(name, measure)) for name, measure in record.measures.items()
    ]
    reasons = sorted({measure.no_interval for measure in record.measures.values() if measure.no_interval})
    table = tabulate(rows, ("measure", "value [95 %]", "to compare"), tablefmt="simple", disable_numparse=True)
    return "\n".join([header, table, *(f"no interval: {reason}" for reason in reasons)])


def format_measure(name: str, measure: Measure) -> str:
    """Value and interval."""
    if measure.low is None or measure.high is None:
        return _number(name, measure.value)
    return f"{_number(name, measure.value)} [{_number(name, measure.low)}, {_number(name, measure.high)}]"


def _compared(name: str, measure: Measure) -> str:
    if measure.by_chance is not None:
        return f"chance {_number(name, measure.by_chance)}"
    return "" if measure.floor is None else f"real images {_number(name, measure.floor)}"


def _number(name: str, value: float) -> str:
    return f"{unit_of(name) * value:{spec_of(name)}}"
