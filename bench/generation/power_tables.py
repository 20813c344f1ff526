"""Measurements of power in print."""

from __future__ import annotations

from tabulate import tabulate

from .power_record import Measure, PowerRecord

SHARES = ("recall", "precision", "f1", "ground")
"""Shown in percent; all other measures as they are."""


def in_percent(name: str, measure: Measure) -> tuple[float, float | None, float | None]:
    """Value and ends of the interval, shares in percent and all others as they are."""
    unit = 100 if name in SHARES else 1
    low, high = (None if end is None else unit * end for end in (measure.low, measure.high))
    return unit * measure.value, low, high


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
    return f"{100 * value:.1f}" if name in SHARES else f"{value:.2f}"
