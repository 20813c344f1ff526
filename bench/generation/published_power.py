"""Published figures of generative power, such as ``results/paper-power.csv``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from segscale.errors import UserError

COLUMNS = ("source", "arxiv", "backbone", "measure", "value", "conditions")
HINT = "name their file: --published FILE"


def read_published_power(path: Path) -> dict[str, dict[str, float]]:
    """Read published figures: by backbone's name here, its value of every measure.

    Raises:
        UserError: Where the file cannot be read, has other columns, or two values for one backbone and measure.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"value": float})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"there are no figures of power in {path}", HINT) from error
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)}", HINT)
    published: dict[str, dict[str, float]] = {}
    for backbone, measure, value in zip(table["backbone"], table["measure"], table["value"], strict=True):
        if measure in (measures := published.setdefault(backbone, {})):
            raise UserError(f"{path} has {measure} of {backbone} twice", "leave the figure of one source")
        measures[measure] = value
    return published
