"""What measures of power differ by between pictures of the same captions, from what is stored of every picture."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pandas as pd

from ..evaluation.intervals import Estimate, estimate_jackknife
from ..evaluation.metrics import Floats
from .frechet import without_groups
from .judge_files import load_reference
from .power_record import stored_features
from .power_tables import unit_of

RATIOS: MappingProxyType[str, Callable[[pd.DataFrame], tuple[pd.Series, pd.Series]]] = MappingProxyType(
    {
        "recall": lambda rows: (rows["hits"], rows["named"]),
        "precision": lambda rows: (rows["hits"], rows["shown"]),
        "f1": lambda rows: (2 * rows["hits"], rows["named"] + rows["shown"]),
        "ground": lambda rows: (rows["ground"], rows["ground"] * 0 + 1),
        "clip_score": lambda rows: (rows["clip_score"], rows["clip_score"] * 0 + 1),
    }
)
"""Of every picture, two numbers; the measure is their sums' ratio."""


def paired_difference(measure: str, pictures: pd.DataFrame, reference: pd.DataFrame) -> Estimate | None:
    """A measure of pictures less that of others, with a jackknife over captions, or over groups of them.

    Args:
        measure: Its name.
        pictures: As of ``StoredPower.pictures``.
        reference: Of the same captions, in the same order.

    Returns:
        In the measure's own unit; None for the FID, whose features are not stored.

    Raises:
        ValueError: Pictures are of other captions.
    """
    if pictures["id"].tolist() != reference["id"].tolist():
        raise ValueError("pictures of other captions cannot be paired")
    if measure == "fid":
        return None
    (value, without), (other, without_other) = (_leave_out(measure, rows) for rows in (pictures, reference))
    bounds = {"frechet": (-np.inf, np.inf), "clip_score": (-100.0, 100.0)}.get(measure, (-1.0, 1.0))
    return estimate_jackknife(value - other, without - without_other, bounds)


def difference_columns(measure: str, pictures: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """``paired_difference`` with its ends, shares in points; NaN where there is none."""
    difference = paired_difference(measure, pictures, reference)
    numbers = (np.nan, np.nan, np.nan) if difference is None else (difference.value, *difference.bounds)
    names = ("difference", "difference_low", "difference_high")
    return {name: unit_of(measure) * number for name, number in zip(names, numbers, strict=True)}


def _leave_out(measure: str, rows: pd.DataFrame) -> tuple[float, Floats]:
    """The measure of all pictures, and without each, or without each group."""
    if measure == "frechet":
        return without_groups(stored_features(rows), load_reference())
    above, below = (numbers.to_numpy(float) for numbers in RATIOS[measure](rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(above.sum() / below.sum()), (above.sum() - above) / (below.sum() - below)
