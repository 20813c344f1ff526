"""The scaling question as tables: a row per backbone, and the statistics in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...backbones.pocket.ladder import family_of, rung_of
from ..report.markdown import format_estimate, markdown_table
from ..report.tables import percent_columns
from .correlations import LEAST_CONFIGURATIONS
from .power_tables import unit_of
from .scaling import Subject

EXPLANATIONS = {
    "rho": "Spearman's rho of mIoU and power",
    "rho given steps": "the same with training steps held fixed (partial); - where steps alone set the order",
    "slope of gain": "points of mIoU that a method gains on the first one per point of power",
    "lead": "how far mIoU is ahead of F1 along training, both from 0 to 1; positive: grounding comes first",
    "difference": "points of mIoU or F1 between a rung and the common one of its family, means over seeds",
}
OTHER_RUNGS = (
    "- other rungs, too: the interval where configurations are drawn as well, so what others like these would give; "
    "the interval before it is of these very ones"
)


def subject_row(subject: Subject) -> dict[str, object]:
    """What a backbone is, its power, the mIoU of every method in percent, and ends of 95 % intervals, by column."""
    rung = rung_of(subject.name)
    row: dict[str, object] = {
        "backbone": subject.name,
        "family": family_of(subject.name),
        "varied": "" if rung is None else rung.varied,
        "steps": None if rung is None else rung.steps,
        "seed": None if rung is None else rung.seed,
        "parameters": subject.parameters,
        **subject.published,
    }
    if subject.power is not None:
        row["pictures"] = subject.power.record.images
        for name, measure in subject.power.record.measures.items():
            scale = unit_of(name)
            ends = {"low": measure.low, "high": measure.high, "chance": measure.by_chance, "floor": measure.floor}
            row[name] = scale * measure.value
            row |= {f"{name}_{end}": scale * value for end, value in ends.items() if value is not None}
    row["images"] = min(len(run.counts) for run in subject.runs.values())
    for method, run in subject.runs.items():
        row |= percent_columns(method, run.miou)
    return row


def statistics_text(statistics: pd.DataFrame) -> str:
    """All statistics as Markdown, with what each means."""
    if statistics.empty:
        return f"no correlation: fewer than {LEAST_CONFIGURATIONS} configurations"
    shown = pd.DataFrame(
        {
            "statistic": statistics["statistic"],
            "group": statistics["group"] + " (" + statistics["configurations"].astype(str) + ")",
            "method": statistics["method"],
            "against": statistics["against"],
            "value [95 %]": [
                "-" if np.isnan(value) else format_estimate(value, low, high, "z.2f")
                for value, low, high in zip(statistics["value"], statistics["low"], statistics["high"], strict=True)
            ],
            "other rungs, too": [
                "-" if np.isnan(low) else f"[{low:z.2f}, {high:z.2f}]"
                for low, high in zip(statistics["rungs_low"], statistics["rungs_high"], strict=True)
            ],
        }
    )
    used = [f"- {name}: {text}" for name, text in EXPLANATIONS.items() if name in set(statistics["statistic"])]
    return "\n".join([markdown_table(shown), "", *used, OTHER_RUNGS])
