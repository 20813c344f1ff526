"""Long tables of evaluated runs, one row per run or per run and class: what every other table is made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ..evaluation.intervals import Estimate
from ..runs.identity import LABEL_DIGITS, RunPlan
from .comparison import not_worse_than_best
from .evaluated import EvaluatedRun

DISTINGUISHING_COLUMNS = ("seed", "dtype", "quantize", "weights", "settings", "version")
"""What may differ between runs of one backbone and method on the same images."""

TableRow = Mapping[str, Any]

TASK_COLUMNS = ["dataset", "split", "protocol"]
"""What numbers of one table must share."""

BEST_OF = {"best_of_backbone": [*TASK_COLUMNS, "label"], "best_of_task": TASK_COLUMNS}
"""Columns that say whether a run is the best of those that share some columns, or not significantly worse than that.

A backbone that was taught with masks or labels is a reference: it is never the best, and no run is measured against it.
"""
NOT_TAUGHT = "none"
"""In the column ``training``: neither masks nor labels."""

BEST_MARK = "*"
DEFAULT_MARK = "†"
NO_INTERVAL_MARK = "‡"
NOT_FINITE_MARK = "¶"
CUT_MARK = "§"
NAMED_RUNS = 6
"""More unfinished runs than these make a note too long to read."""
POCKET_NOTE = (
    "Pocket backbones are tiny twins trained on generated scenes. Their numbers say that the harness works; "
    "they say nothing about the real backbones."
)
BEST_NOTE = f"{BEST_MARK} Best threshold of the sweep, chosen on the very images evaluated."
NOT_FINITE_NOTE = (
    f"{NOT_FINITE_MARK} Scores that are NaN or infinite: something is broken, or a published rule divides by zero, as "
    "of an even map in `goca`:"
)
CUT_NOTE = (
    f"{CUT_MARK} Classes without a token: the prompt was cut before them, or their word is part of another. They win "
    "no pixel, or every one where a published rule lets NaN win (`goca`, `seg4diff`):"
)
BOLD_NOTE = "Bold: the best of its column, or not significantly worse (paired jackknife, Holm's correction, 5 %)."
TRAINED_NOTE = (
    "Training: what a backbone was taught with beside pictures and captions. One that was taught with masks or labels "
    "is no training-free method's; it shows what training buys, and is never bold."
)
DEFAULT_NOTE = f"{DEFAULT_MARK} The protocol's default threshold, not calibrated for this dataset and method."


def long_table(evaluated: Iterable[EvaluatedRun]) -> pd.DataFrame:
    """One row per run; docs/results.md says what each column holds."""
    runs = [*evaluated]
    table = with_labels(pd.DataFrame([_row(run) for run in runs]))
    for name, columns in BEST_OF.items():
        table[name] = _best_of(runs, table, columns)
    order = [*TASK_COLUMNS, "method", "parameters", "backbone", "identity"]
    return table.sort_values(order, ignore_index=True)


def _row(evaluated: EvaluatedRun) -> dict[str, object]:
    run, plan, score, summary = evaluated.run, evaluated.plan, evaluated.score, evaluated.summary
    return {
        "backbone": plan.backbone.label,
        "parameters": run.parameters,
        "training": plan.backbone.training,
        "method": plan.method.label,
        **plan.task.columns,
        "threshold": evaluated.threshold,
        "threshold_from": evaluated.threshold_from,
        "miou": 100 * score.miou,
        **interval_columns(evaluated.miou),
        "accuracy": 100 * score.accuracy,
        "mean_ap": 100 * evaluated.mean_ap.value,
        **interval_columns(evaluated.mean_ap, "mean_ap_"),
        "images": summary.images,
        "split_images": run.split_images,
        "captions": str(run.captions or ""),
        "not_finite": summary.not_finite,
        "cut_classes": summary.cut_classes,
        "missing": evaluated.missing,
        "at_work": ", ".join(evaluated.at_work),
        **distinguishing(plan),
        "forwards": summary.forwards,
        "seconds_per_image": summary.seconds,
        "peak_mib": summary.peak_bytes / 2**20,
        "identity": run.run_id,
        "packaged": plan.backbone.packaged,
        "oracle_protocol": run.table_rules.oracle_protocol,
    }


def distinguishing(plan: RunPlan) -> dict[str, object]:
    """The columns of ``DISTINGUISHING_COLUMNS``."""
    return {
        "seed": plan.seed,
        "dtype": plan.backbone.dtype,
        "quantize": plan.backbone.quantize,
        "weights": plan.backbone.weights,
        "settings": _settings(plan),
        "version": plan.version,
    }


def _settings(plan: RunPlan) -> str:
    backbone, captions = plan.backbone, plan.task.dataset.captions or ""
    parts = {
        f"text {backbone.text_dtype}": backbone.text_dtype != backbone.dtype,
        f"variant {backbone.variant}": backbone.variant is not None,
        f"captions {captions[:LABEL_DIGITS]}": captions != "",
    }
    return ", ".join(text for text, is_there in parts.items() if is_there)


def _best_of(runs: Sequence[EvaluatedRun], table: pd.DataFrame, columns: list[str]) -> list[bool]:
    best = [False] * len(runs)
    for _, group in grouped(table.loc[table["training"] == NOT_TAUGHT], columns):
        rows = [int(index) for index in group.index.to_numpy()]
        if len(rows) == 1:
            continue
        for row, value in zip(rows, not_worse_than_best([runs[row] for row in rows]), strict=True):
            best[row] = value
    return best


def interval_columns(estimate: Estimate, prefix: str = "") -> dict[str, object]:
    """Ends of the interval in percent, or why there is none; names of columns begin with ``prefix``."""
    low, high = estimate.bounds
    return {f"{prefix}low": 100 * low, f"{prefix}high": 100 * high, f"{prefix}no_interval": estimate.no_interval}


def percent_columns(name: str, estimate: Estimate) -> dict[str, object]:
    """An estimate in percent and the ends of its interval, NaN where there is none."""
    low, high = estimate.bounds
    return {name: 100 * estimate.value, f"{name}_low": 100 * low, f"{name}_high": 100 * high}


def table_rows(table: pd.DataFrame) -> list[TableRow]:
    """The rows of a table, by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def was_taught(table: pd.DataFrame) -> bool:
    """Whether a backbone of the table was taught with masks or labels, so that the column ``training`` tells."""
    return bool((table["training"] != NOT_TAUGHT).any())


def grouped(table: pd.DataFrame, columns: list[str]) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Groups of rows that agree in several ``columns``."""
    for key, group in table.groupby(columns):
        yield (key if isinstance(key, tuple) else (key,)), group


def with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``label``: the backbone, and whatever tells runs apart that would share a column of a table.

    Methods that two versions ran stand beside each other; of one method, versions are told apart.

    Args:
        table: With the columns that name a run, and ``DISTINGUISHING_COLUMNS``.
    """
    table = table.assign(label=table["backbone"])
    for column in DISTINGUISHING_COLUMNS:
        same = [*TASK_COLUMNS, "backbone", *(["method"] if column == "version" else [])]
        for _, group in grouped(table, same):
            if len({str(value) for value in group[column]}) > 1:
                table.loc[group.index, "label"] += [_apart(column, value) for value in group[column]]
    return table


def _apart(column: str, value: object) -> str:
    if column != "settings":
        return f", {column} {value}"
    return f", {value}" if value else ""


def class_table(evaluated: Iterable[EvaluatedRun]) -> pd.DataFrame:
    """One row per run and class; IoU in percent, empty where the class is neither predicted nor labelled."""
    return pd.DataFrame(
        [
            {
                "backbone": run.plan.backbone.label,
                "method": run.plan.method.label,
                "dataset": run.plan.task.dataset.name,
                "protocol": run.plan.task.protocol.label,
                "class": name,
                "iou": 100 * iou,
                "ap": 100 * ap,
                "identity": run.run.run_id,
            }
            for run in evaluated
            for name, iou, ap in zip(run.run.classes, run.score.class_iou, run.class_ap, strict=True)
        ]
    )


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader of tables with these rows must know."""
    applies = {
        POCKET_NOTE: table["packaged"],
        TRAINED_NOTE: table["training"] != NOT_TAUGHT if "training" in table else [],
        BEST_NOTE: table["threshold_from"] == "best",
        DEFAULT_NOTE: table["threshold_from"] == "default",
    }
    if len(table) > 1 and "best_of_task" in table:
        applies = {BOLD_NOTE: [True]} | applies
    standing = [note for note, rows in applies.items() if any(rows)]
    return [*standing, *interval_notes(table), *_counting_notes(table), *unfinished_notes(table)]


def _counting_notes(table: pd.DataFrame) -> Iterator[str]:
    """What was counted in single runs, and which captions were not there."""
    for note, column in ((NOT_FINITE_NOTE, "not_finite"), (CUT_NOTE, "cut_classes")):
        if counted := [_counted(row, column) for row in table_rows(table) if row[column]]:
            yield f"{note} {'; '.join(counted)}."
    for row in table_rows(table.drop_duplicates(["dataset", "split", "captions"])):
        if row["captions"]:
            yield f"Captions of {row['dataset']} {row['split']}: {row['captions']}."


def _counted(row: TableRow, column: str) -> str:
    """How many there are of a row, and which row that is."""
    return f"{row[column]} in {_subject(row)}"


def _subject(row: TableRow) -> str:
    """The run of a row; analyses have no label beside the backbone's name."""
    return "{method} on {label}, {dataset} {split} ({protocol})".format(**{"label": row["backbone"], **row})


def unfinished_notes(table: pd.DataFrame) -> list[str]:
    """Which runs lack images that were asked for, and who computes them, where some do."""
    unfinished = [row for row in table_rows(table) if row["missing"] > 0]
    if not unfinished:
        return []
    named = "; ".join(
        f"{_subject(row)}, {missing_text(row['images'], row['missing'], row['at_work'])}"
        for row in unfinished[:NAMED_RUNS]
    )
    others = f"; and {len(unfinished) - NAMED_RUNS} more" if len(unfinished) > NAMED_RUNS else ""
    verb = "run is" if len(table) == 1 else "runs are"
    return [f"{len(unfinished)} of {len(table)} {verb} unfinished: {named}{others}."]


def missing_text(images: int, missing: int, at_work: str) -> str:
    """How far an unfinished run is, and whether any process goes on with it."""
    state = f"still running: {at_work}" if at_work else "stopped: give its command again"
    return f"{images} of {images + missing} images, {state}"


def interval_notes(table: pd.DataFrame) -> list[str]:
    """Why numbers of ``table`` have no interval, where some have none."""
    found = {*table["no_interval"].dropna()}
    if "mean_ap" in table:
        found |= {*table.loc[table["mean_ap"].notna(), "mean_ap_no_interval"].dropna()}
    reasons = "; ".join(sorted(found))
    return [f"{NO_INTERVAL_MARK} No 95 % interval: these images cannot carry one ({reasons})."] if reasons else []
