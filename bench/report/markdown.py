"""Tables in Markdown: methods by backbones, the scaling table, the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from tabulate import tabulate

from ..evaluation.intervals import Estimate
from .tables import (
    BEST_MARK,
    CUT_MARK,
    DEFAULT_MARK,
    DISTINGUISHING_COLUMNS,
    NO_INTERVAL_MARK,
    NOT_FINITE_MARK,
    NOT_TAUGHT,
    TASK_COLUMNS,
    TableRow,
    grouped,
    notes,
    table_rows,
    was_taught,
)

MARKS = {"best": BEST_MARK, "default": DEFAULT_MARK}
MIOU_TITLE, MAP_TITLE = "mIoU [95 %]", "mAP [95 %]"


def markdown_table(table: pd.DataFrame, titles: Sequence[str] | None = None) -> str:
    """A table as GitHub shows it; numbers stay as they are written."""
    headers = list(table.columns) if titles is None else list(titles)
    return tabulate(table.to_numpy().tolist(), headers, tablefmt="github", disable_numparse=True)


def format_miou(row: TableRow) -> str:
    """MIoU with its interval, marked by where the threshold comes from."""
    mark = MARKS.get(str(row["threshold_from"]), "") + count_marks(row)
    return format_estimate(row["miou"], row["low"], row["high"], mark=mark)


def count_marks(row: TableRow) -> str:
    """Marks of scores that are not finite and of classes without a token, none where there are none."""
    return NOT_FINITE_MARK * bool(row["not_finite"]) + CUT_MARK * bool(row["cut_classes"])


def format_estimate(value: float, low: float, high: float, spec: str = ".1f", mark: str = "") -> str:
    """A number with its interval, or the mark of none where the ends are NaN."""
    interval = NO_INTERVAL_MARK if math.isnan(low) else f" [{low:{spec}}, {high:{spec}}]"
    return f"{value:{spec}}{mark}{interval}"


def _mean_ap(row: TableRow) -> str:
    if math.isnan(row["mean_ap"]):
        return "-"
    return format_estimate(row["mean_ap"], row["mean_ap_low"], row["mean_ap_high"])


def format_share(estimate: Estimate, spec: str = ".1f") -> str:
    """An estimated share, or a difference of shares, in percent."""
    low, high = estimate.bounds
    return format_estimate(100 * estimate.value, 100 * low, 100 * high, spec)


def format_cell(row: TableRow) -> str:
    """As ``format_miou``, with the number of images where it is not the whole split."""
    partial = "" if row["images"] == row["split_images"] else f" ({row['images']} images)"
    return format_miou(row) + partial


def bold(text: str, is_bold: bool = True) -> str:
    """The text in bold type, where it is."""
    return f"**{text}**" if is_bold else text


def format_parameters(parameters: float | None) -> str:
    """A number of parameters in millions."""
    return "-" if parameters is None or math.isnan(parameters) else f"{parameters / 1e6:.1f} M"


def method_matrix(table: pd.DataFrame) -> str:
    """MIoU of methods (down) by backbones (across, by size), per dataset, split and protocol."""
    parts: list[str] = []
    for (dataset, split, protocol), group in grouped(table, TASK_COLUMNS):
        by_size = group.sort_values(["parameters", "label"], kind="stable").drop_duplicates("label")
        labels = by_size["label"].tolist()
        wide = _joined_cells(group, "label").sort_index().reindex(columns=labels).fillna("-").reset_index()
        sizes = map(format_parameters, by_size["parameters"])
        taught = ["" if taught == NOT_TAUGHT else f", taught with {taught}" for taught in by_size["training"]]
        columns = zip(labels, sizes, taught, strict=True)
        titles = ["method", *(f"{label}, {size}{training}" for label, size, training in columns)]
        parts.append(f"{dataset} {split}, protocol {protocol}, mIoU in percent:\n")
        parts.append(markdown_table(wide, titles) + "\n")
    return "\n".join(parts).rstrip("\n")


def scaling_table(table: pd.DataFrame) -> str:
    """MIoU of methods and backbones by size (down), by dataset, split and protocol (across).

    Beside a protocol with the full vocabulary stands what knowing the classes is worth, in points.
    """
    column = table["dataset"] + " " + table["split"] + " (" + table["protocol"] + ")"
    sizes = [format_parameters(parameters) for parameters in table["parameters"]]
    shown = table.assign(column=column, size=sizes)
    cells = _joined_cells(shown, "column")
    order = shown.sort_values(["method", "parameters", "label"]).drop_duplicates(["method", "label"])
    rows = pd.MultiIndex.from_arrays([order["method"], order["label"]], names=["method", "backbone"])
    for full, gap in oracle_gaps(shown).items():
        cells.insert(list(cells.columns).index(full) + 1, gap.name, gap)
    cells = cells.reindex(rows).fillna("-").reset_index()
    cells.insert(2, "parameters", order["size"].to_numpy())
    if was_taught(order):
        cells.insert(3, "training", order["training"].to_numpy())
    return markdown_table(cells)


def _joined_cells(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows method and label, a column for each value of ``column``; runs that share a cell stand in it together."""
    best = "best_of_backbone" if column == "label" else "best_of_task"
    cells = table.assign(cell=[bold(format_cell(row), row[best]) for row in table_rows(table)])
    texts = cells.groupby(list(dict.fromkeys(["method", "label", column])), sort=False)["cell"].agg("; ".join)
    return pd.DataFrame(texts.unstack(column))


def oracle_gaps(table: pd.DataFrame) -> dict[str, pd.Series]:
    """What knowing the classes of an image is worth, in points: oracle - full, of runs alike in all else.

    Keys are the columns of the full vocabulary, values are series over method and label.
    """
    gaps: dict[str, pd.Series] = {}
    by_row = ["method", "label"]
    full_rows = table.dropna(subset=["oracle_protocol"])
    full_rows = full_rows.assign(rules=full_rows.groupby(["dataset", "split"])["protocol"].transform("nunique"))
    for (dataset, split, oracle, protocol, column), full in grouped(
        full_rows, ["dataset", "split", "oracle_protocol", "protocol", "column"]
    ):
        same_images = (table["dataset"] == dataset) & (table["split"] == split)
        known = table[same_images & (table["protocol"] == oracle)]
        alike = ["method", "backbone", "images", *DISTINGUISHING_COLUMNS]
        both = known.merge(full, on=alike, suffixes=("", "_full")).set_index(by_row)
        if len(both):
            points = (both["miou"] - both["miou_full"]).map("{:+.1f}".format)
            joined = pd.Series(points.groupby(level=by_row).agg("; ".join))
            name = protocol if bool((full["rules"] > 1).any()) else "full"
            joined.name = f"{dataset} {split} (oracle - {name})"
            gaps[str(column)] = joined
    return gaps


def leaderboard(table: pd.DataFrame, more: Sequence[str] = ()) -> str:
    """One table per dataset and protocol, best first, with everything a row must carry.

    Args:
        table: Of ``long_table``.
        more: Lines of other tables, which stand between these and the notes.
    """
    parts = ["# Leaderboard", ""]
    for (dataset, split, protocol), group in grouped(table, TASK_COLUMNS):
        ranked = group.sort_values("miou", ascending=False)
        shown = ranking(ranked)
        if was_taught(table):
            shown.insert(2, "training", ranked["training"])
        shown[MIOU_TITLE] = [*map(bold, shown[MIOU_TITLE], ranked["best_of_task"])]
        parts += [f"## {dataset} {split}, protocol {protocol}", "", markdown_table(shown), ""]
    parts += more
    for note in notes(table):
        parts += [note, ""]
    return "\n".join(parts)


def ranking(ranked: pd.DataFrame) -> pd.DataFrame:
    """The cells of the leaderboard, nothing in bold."""
    return pd.DataFrame(
        {
            "method": ranked["method"],
            "backbone": ranked["label"],
            MIOU_TITLE: [format_miou(row) for row in table_rows(ranked)],
            "threshold": ranked["threshold"].map("{:g}".format),
            "aAcc": ranked["accuracy"].map("{:.1f}".format),
            MAP_TITLE: [_mean_ap(row) for row in table_rows(ranked)],
            "images": [f"{i} of {n}" for i, n in zip(ranked["images"], ranked["split_images"], strict=True)],
            "seed": ranked["seed"],
            "weights": ranked["weights"],
            "dtype": ranked["dtype"],
            "forwards": ranked["forwards"].map("{:.3g}".format),
            "s / image": ranked["seconds_per_image"].map("{:.3f}".format),
            "peak MiB": ranked["peak_mib"].map("{:.0f}".format),
            "version": ranked["version"],
            "run": ranked["identity"],
        }
    )
