"""Draws every figure of stored runs, and writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from segscale.files import explained_writes, replaced_bytes

from ..evaluated import EvaluatedRun
from ..selection import ImageFormat
from ..tables import TASK_COLUMNS, grouped, long_table
from .classes import class_figure
from .cost import cost_figure
from .examples import example_figure
from .points import by_task, points
from .scaling import scaling_figure
from .style import Looks, drawn, styles
from .thresholds import Sweep, threshold_figure

Runs = Mapping[str, EvaluatedRun]
"""By the name that a legend shows."""


def write_figures(evaluated: Sequence[EvaluatedRun], folder: Path, formats: Sequence[ImageFormat]) -> list[Path]:
    """Write every figure that the runs have something for; returns what was written.

    Scaling and cost are drawn for each task; classes, thresholds and examples for each backbone of it.

    Raises:
        UserError: The folder cannot be written.
    """
    written: list[Path] = []
    with explained_writes(folder, "--output"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in figures(evaluated):
            if (figure := draw()) is None:
                continue
            for image_format in formats:
                written.append(folder / f"{name}.{image_format}")
                with replaced_bytes(written[-1]) as file:
                    file.write(drawn(figure, image_format))
    return written


def figures(evaluated: Sequence[EvaluatedRun]) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """The name of every figure, and what draws it; nothing is drawn where runs have nothing to show."""
    table = long_table(evaluated)
    by_id = {run.run.run_id: run for run in evaluated}
    backbones = [(key, rows, _named(rows, by_id)) for key, rows in grouped(table, [*TASK_COLUMNS, "label"])]
    looks = styles({*table["method"]}.union(*(runs for _, _, runs in backbones)))
    for task, runs in by_task(points(table)).items():
        yield f"scaling-{_file_name(task)}", partial(scaling_figure, runs, looks)
        yield f"cost-{_file_name(task)}", partial(cost_figure, runs, looks, task)
    for (dataset, split, protocol, label), _, runs in backbones:
        name = _file_name(f"{dataset} {split}, protocol {protocol}", label)
        title = f"{label} on {dataset} {split}, protocol {protocol}"
        yield f"classes-{name}", partial(_classes, runs, looks, title)
        yield f"thresholds-{name}", partial(_thresholds, runs, looks, title)
        yield f"examples-{name}", partial(example_figure, runs, title)


def _named(rows: pd.DataFrame, by_id: Mapping[str, EvaluatedRun]) -> dict[str, EvaluatedRun]:
    """Runs by method; by method and run id where two share it."""
    methods, ids = rows["method"].astype(str).tolist(), rows["identity"].astype(str).tolist()
    names = [name if methods.count(name) == 1 else f"{name} {id}" for name, id in zip(methods, ids, strict=True)]
    return {name: by_id[id] for name, id in zip(names, ids, strict=True)}


def _classes(runs: Runs, looks: Looks, title: str) -> Figure | None:
    classes = [*dict.fromkeys(name for run in runs.values() for name in run.run.classes)]
    ious = {
        name: pd.Series(100 * run.class_iou(run.score), run.run.classes).reindex(classes).to_numpy()
        for name, run in runs.items()
    }
    return class_figure(classes, ious, looks, title)


def _thresholds(runs: Runs, looks: Looks, title: str) -> Figure | None:
    sweeps = {
        name: Sweep(run.counts.thresholds, tuple(100 * score.miou for score in run.sweep), run.threshold)
        for name, run in runs.items()
    }
    return threshold_figure(sweeps, looks, title)


def _file_name(*parts: object) -> str:
    return "-".join(re.sub(r"[^\w.@=]+", "-", str(part).replace("protocol ", "")).strip("-") for part in parts)
