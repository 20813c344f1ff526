"""Comparisons of runs as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .comparison import (
    SIZES,
    Comparison,
    PartDifference,
    class_differences,
    class_number_differences,
    image_outcomes,
    seed_groups,
    size_differences,
)
from .evaluated import EvaluatedRun
from .markdown import format_share, markdown_table
from .pairs import facts
from .tables import NO_INTERVAL_MARK

SHOWN = ("backbone", "method", "protocol", "seed", "version")


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """One line per comparison: the difference with its interval, the corrected p-value, wins, ties and losses."""
    rows = [_row(comparison) for comparison in comparisons]
    count = len(comparisons)
    notes = ["mIoU in percent, differences in points [95 %]; images are those that both runs evaluated."]
    if count > 1:
        notes.append(f"p-values are corrected for {count} comparisons by Holm's method.")
    reasons = {c.difference.no_interval for c in comparisons} - {None}
    notes += [f"{NO_INTERVAL_MARK} No interval: {reason}." for reason in sorted(map(str, reasons))]
    return "\n\n".join([markdown_table(pd.DataFrame(rows)), *notes, *map(_seed_line, seed_groups(comparisons))])


def comparison_details(comparison: Comparison) -> str:
    """Where the difference comes from: sizes, number of classes, classes; a line where the classes are not the same."""
    if comparison.run.run.classes != comparison.reference.run.classes:
        return "By area and class nothing is told: the two runs count other classes."
    classes = pd.DataFrame(
        [
            {
                "class": row.name,
                "IoU": _percent(row.iou),
                "reference": _percent(row.reference_iou),
                "difference": _percent(row.iou - row.reference_iou, "+.1f"),
            }
            for row in class_differences(comparison)
        ]
    )
    small, medium = (100 * SIZES[name][1] for name in ("small", "medium"))
    sizes = f"By area (share of the image that a class has: small below {small:g} %, medium below {medium:g} %):"
    return "\n\n".join(
        [
            sizes,
            _parts(size_differences(comparison), "size", "areas"),
            "By the number of classes that an image shows, background not counted:",
            _parts(class_number_differences(comparison), "classes", "images"),
            "By class:",
            markdown_table(classes),
        ]
    )


def _row(comparison: Comparison) -> dict[str, str]:
    outcomes = image_outcomes(comparison)
    run, reference = comparison.run, comparison.reference
    return {
        "run": _name(run, reference),
        "reference": _name(reference, run),
        "on": f"{facts(run)['dataset']} {facts(run)['split']}",
        "images": str(comparison.images),
        "difference": format_share(comparison.difference, "+.1f"),
        "p": "-" if comparison.corrected_p is None else f"{comparison.corrected_p:.2g}",
        "wins / ties / losses": f"{outcomes.wins} / {outcomes.ties} / {outcomes.losses}",
    }


def _name(run: EvaluatedRun, other: EvaluatedRun) -> str:
    """Backbone and method, and what else differs between the two."""
    own, others = facts(run), facts(other)
    named = [own[field] for field in SHOWN if field in ("backbone", "method") or own[field] != others[field]]
    return " / ".join(named)


def _percent(share: float, spec: str = ".1f") -> str:
    return "-" if np.isnan(share) else f"{100 * share:{spec}}"


def _parts(parts: Sequence[PartDifference], title: str, amounts: str) -> str:
    rows = [{title: p.name, amounts: str(p.amount), "difference": format_share(p.difference, "+.1f")} for p in parts]
    return markdown_table(pd.DataFrame(rows, columns=[title, amounts, "difference"]))


def _seed_line(comparisons: Sequence[Comparison]) -> str:
    values = 100 * np.array([comparison.difference.value for comparison in comparisons])
    first = comparisons[0]
    names = f"{_name(first.run, first.reference)} against {_name(first.reference, first.run)}"
    spread = f"standard deviation {values.std(ddof=1):.1f}"
    return f"{names}: {values.mean():+.1f} on average over {len(values)} seeds, {spread}."
