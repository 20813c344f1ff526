"""The scaling table as papers print it: methods down, backbones across."""

from __future__ import annotations

from typing import Any

import pandas as pd
from tabulate import tabulate

from .tables import cell_text, millions


def method_matrix(table: pd.DataFrame) -> str:
    """Markdown of the long table: mIoU with 95 % interval per dataset, split and protocol; backbones go by size."""
    parts: list[str] = []
    groups: Any = table.groupby(["dataset", "split", "protocol"])
    for (dataset, split, protocol), group in groups:
        by_size = group.sort_values(["parameters", "label"], kind="stable").drop_duplicates("label")
        cells = group.assign(cell=group.apply(cell_text, axis=1))
        wide = cells.groupby(["method", "label"], sort=False)["cell"].agg("; ".join).unstack("label")
        wide = wide.sort_index()[by_size["label"].tolist()].fillna("-").reset_index()
        sizes = by_size["parameters"].map(millions)
        titles = ["method", *(f"{label}, {size}" for label, size in zip(by_size["label"], sizes, strict=True))]
        parts.append(f"{dataset} {split}, protocol {protocol}, mIoU in percent:\n")
        parts.append(tabulate(wide, titles, tablefmt="github", showindex=False, disable_numparse=True) + "\n")
    return "\n".join(parts).rstrip("\n")
