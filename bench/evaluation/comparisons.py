"""Corrects the p-values of many comparisons made at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .metrics import Floats


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down correction, in the order of ``p_values``.

    Where those below 0.05 are called differences, there is a false one among them in at most 5 % of all tables.
    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return corrected
