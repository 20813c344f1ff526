"""The papers' layout: methods down, datasets across, one table per protocol; in Markdown, CSV, JSON or LaTeX."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from .latex import latex_bold, latex_table
from .markdown import bold, format_cell, format_parameters, markdown_table
from .published import NOTE, NOTHING_NOTE
from .selection import TableFormat
from .tables import TableRow, grouped, notes, table_rows

RECORD_COLUMNS = (
    *("protocol", "dataset", "split", "backbone", "label", "parameters", "method", "seed", "miou", "low", "high"),
    *("threshold", "threshold_from", "best_of_task", "accuracy"),
    *("mean_ap", "mean_ap_low", "mean_ap_high", "images", "split_images", "training", "identity"),
)
PUBLISHED_COLUMNS = ("published", "arxiv", "difference")
ROW = ["method", "backbone", "parameters"]


def formatted(table: pd.DataFrame, table_format: TableFormat) -> str:
    """The long table in the papers' layout.

    Args:
        table: Long table; with the columns of ``beside_published`` where published numbers are to stand in it.
        table_format: ``csv`` and ``json`` have one record per run, with all digits.
    """
    writers: dict[TableFormat, Callable[[pd.DataFrame], str]] = {
        "github": _github,
        "latex": _latex,
        "csv": lambda table: str(_records(table).to_csv(index=False)),
        "json": lambda table: f"{_records(table).to_json(orient='records', indent=2)}\n",
    }
    return writers[table_format](table)


def layouts(table: pd.DataFrame, embolden: Callable[[str], str]) -> dict[str, pd.DataFrame]:
    """By protocol, a table of texts.

    Its columns have two levels: dataset, and what stands there. Rows are sorted by size of the backbone.
    """
    return {str(protocol): _layout(group, embolden) for (protocol,), group in grouped(table, ["protocol"])}


def _layout(table: pd.DataFrame, embolden: Callable[[str], str]) -> pd.DataFrame:
    rows = table_rows(table)
    compared = ("published", "difference") if _has_published(table) else ()
    shown = table.assign(
        row=table["method"] + "\n" + table["label"],
        task=table["dataset"] + " " + table["split"],
        measured=[embolden(format_cell(row)) if row["best_of_task"] else format_cell(row) for row in rows],
        **{name: [_number(row, name) for row in rows] for name in compared},
    )
    order = shown.sort_values(["parameters", "label", "method"], kind="stable").drop_duplicates("row").set_index("row")
    sizes = order["parameters"].map(format_parameters)
    columns = {("", name): values for name, values in zip(ROW, (order["method"], order["label"], sizes), strict=True)}
    for (task,), group in grouped(shown, ["task"]):
        for kind in ("measured", *compared):
            # Runs that differ in nothing that a table shows stand in one cell.
            texts = group.groupby("row")[kind].agg(lambda values: "; ".join(dict.fromkeys(values)))
            columns[str(task), kind] = texts.reindex(order.index).fillna("-")
    return pd.DataFrame(columns).reset_index(drop=True)


def _has_published(table: pd.DataFrame) -> bool:
    return "published" in table


def _number(row: TableRow, name: str) -> str:
    if pd.isna(row[name]):
        return "-"
    return f"{row[name]:.1f}" if name == "published" else f"{row[name]:+.1f}"


def layout_notes(table: pd.DataFrame) -> list[str]:
    """What a reader of these layouts must know."""
    if not _has_published(table):
        return notes(table)
    if not table["published"].notna().to_numpy().any():
        return [*notes(table), NOTHING_NOTE]
    sources = ", ".join(f"arXiv {name}" for name in sorted(table["arxiv"].dropna().unique()))
    return [*notes(table), f"{NOTE} They are of {sources}."]


def _github(table: pd.DataFrame) -> str:
    parts: list[str] = []
    for protocol, wide in layouts(table, bold).items():
        one_kind = not _has_published(table)
        titles = [kind if not task else task if one_kind else f"{task} {kind}" for task, kind in wide.columns]
        parts += [f"Protocol {protocol}, mIoU in percent:", markdown_table(wide, titles)]
    return "\n\n".join([*parts, *layout_notes(table)]) + "\n"


def _latex(table: pd.DataFrame) -> str:
    parts = [
        latex_table(wide, f"Protocol {protocol}, mIoU in percent.", f"tab:{protocol}")
        for protocol, wide in layouts(table, latex_bold).items()
    ]
    remarks = "\n".join(f"% {note}" for note in layout_notes(table))
    return "% \\usepackage{booktabs}\n" + "\n".join(parts) + remarks + "\n"


def _records(table: pd.DataFrame) -> pd.DataFrame:
    columns = [*RECORD_COLUMNS, *(PUBLISHED_COLUMNS if _has_published(table) else ())]
    order = ["protocol", "dataset", "split", "parameters", "label", "method"]
    return table.sort_values(order).reindex(columns=columns)
