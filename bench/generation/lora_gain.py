"""What a LoRA buys: mIoU of every method, and generative power, with it and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from segscale.errors import UserError

from ..report.comparison import compare
from ..report.evaluated import EvaluatedRun, evaluate_run
from ..report.markdown import markdown_table
from ..report.tables import TableRow, percent_columns, table_rows
from ..report.thresholds import Thresholds
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..runs.plan import build_methods
from ..tasks.task import Task
from .paired import difference_columns
from .power_record import StoredPower
from .power_tables import format_columns, in_percent, spec_of
from .strengths import PowerQuestion


def without_lora(options: RunOptions) -> RunOptions:
    """The same options of the plain backbone. Raises UserError where they name no LoRA."""
    if options.load.lora is None:
        raise UserError("no LoRA is named", "name its folder: --lora FOLDER; one is made by: segscale align")
    return replace(options, load=replace(options.load, lora=None))


def segmentation_gain(
    backbone_name: str, task: Task, method_names: Sequence[str] | None, options: RunOptions
) -> pd.DataFrame:
    """Run every method with and without the LoRA on the same images, where that is not stored.

    Returns:
        One row per method, in percent: ``measure`` is its name; ``plain`` and ``lora`` have their ends in ``_low`` and
        ``_high``, like ``difference``, which is paired by image.
    """
    methods = build_methods(method_names, backbone_name, task.protocol)
    images, thresholds = frozenset(task.dataset.ids[: options.limit]), Thresholds(options.results)
    plain, trained = (
        [evaluate_run(store, thresholds, images) for store in run_methods(backbone_name, methods, task, each)]
        for each in (without_lora(options), options)
    )
    return pd.DataFrame([_run_row(*pair) for pair in zip(trained, plain, strict=True)])


def power_gain(question: PowerQuestion) -> pd.DataFrame:
    """Draw and measure pictures with and without the LoRA; rows as of ``segmentation_gain``, paired by caption."""
    plain = replace(question, options=without_lora(question.options)).measured(question.choices)
    trained = question.measured(question.choices)
    return pd.DataFrame([_power_row(name, trained, plain) for name in plain.record.measures])


def gain_text(table: pd.DataFrame) -> str:
    """Markdown: a row per method and measure of power."""
    shown = [
        [row["measure"], row["items"], *(_cell(row, column) for column in ("plain", "lora", "difference"))]
        for row in table_rows(table)
    ]
    return markdown_table(pd.DataFrame(shown), ["", "images or pictures", "plain", "with LoRA", "difference, paired"])


def _cell(row: TableRow, column: str) -> str:
    sign = "+" if column == "difference" else ""
    return format_columns(row, (column, f"{column}_low", f"{column}_high"), sign + spec_of(row["measure"]))


def _run_row(trained: EvaluatedRun, plain: EvaluatedRun) -> dict[str, object]:
    (comparison,) = compare([(trained, plain)])
    return {
        "measure": plain.plan.method.name,
        "items": comparison.images,
        **percent_columns("plain", plain.miou),
        **percent_columns("lora", trained.miou),
        **percent_columns("difference", comparison.difference),
    }


def _power_row(name: str, trained: StoredPower, plain: StoredPower) -> dict[str, object]:
    row: dict[str, object] = {"measure": name, "items": plain.record.images}
    for column, stored in (("plain", plain), ("lora", trained)):
        keys = (column, f"{column}_low", f"{column}_high")
        row |= dict(zip(keys, in_percent(name, stored.record.measures[name]), strict=True))
    return row | difference_columns(name, trained.pictures, plain.pictures)
