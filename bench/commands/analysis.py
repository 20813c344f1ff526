"""What the commands do that analyse and calibrate. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .options import (
    carried,
    check_names,
    print_written,
    quiet_libraries,
    reports,
    run_options,
    without_weights,
)

if TYPE_CHECKING:
    import pandas as pd


def analyse(arguments: argparse.Namespace) -> None:
    """Prints the table of ``arguments.analysis``, writes CSV file and figure."""
    check_names(backbone=[arguments.backbone], dataset=[arguments.dataset], protocol=[arguments.protocol])
    from ...backbones.attention.modalities import require_joint
    from ...methods.build import method_defaults
    from ..analysis.modalities import ANALYSES, averages_on, printable
    from ..report.figures import analysis_figure

    quiet_libraries()
    shape = without_weights(arguments.backbone)
    require_joint(shape, method_defaults(arguments.backbone).image_size)
    analysis, names = ANALYSES[arguments.analysis], (arguments.backbone, arguments.dataset, arguments.protocol)
    table = averages_on(analysis, *names, run_options(arguments), arguments.timestep)
    draw = partial(analysis_figure, table, analysis)
    written = _write_analysis(table, arguments.results, f"{arguments.backbone}-{analysis.name}", draw)
    print(printable(table, analysis))
    for path in written:
        print_written(path)


def quirks(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or carried()
    check_names(backbone=backbones, dataset=[arguments.dataset])
    from ..analysis.layers import FOLDER
    from ..analysis.quirks import effects, table

    quiet_libraries()
    options = run_options(arguments)
    rows = effects(backbones, arguments.dataset, replace(options, results=arguments.results / FOLDER))
    print(table(rows))
    for path in _write_analysis(rows, arguments.results, "quirks"):
        print_written(path)


def layers(arguments: argparse.Namespace) -> None:
    """Prints the mIoU of every block or head alone, writes CSV file and figure."""
    check_names(
        backbone=[arguments.backbone],
        method=arguments.compared,
        dataset=[arguments.dataset],
        protocol=[arguments.protocol],
    )
    from ...methods.build import method_defaults
    from ..analysis.layers import LayerAnalysis, best_text, evaluate_parts, parts_of, printable
    from ..report.figures import heads_figure, layers_figure
    from ..report.tables import notes

    quiet_libraries()
    shape = without_weights(arguments.backbone)
    sites = shape.sites(method_defaults(arguments.backbone).image_size)
    parts = parts_of(arguments.backbone, sites, arguments.sites, arguments.heads)
    analysis = LayerAnalysis(arguments.method, parts, tuple(arguments.compared), arguments.timestep)
    names = (arguments.backbone, arguments.dataset, arguments.protocol)
    table = evaluate_parts(analysis, *names, run_options(arguments))
    if not reports():
        return
    kind, draw = ("heads", heads_figure) if arguments.heads else ("layers", layers_figure)
    written = _write_analysis(table, arguments.results, f"{arguments.backbone}-{kind}", partial(draw, table))
    print(f"{printable(table)}\n{best_text(table)}")
    for note in notes(table):
        print(f"\n{note}")
    for path in written:
        print_written(path)


def calibrate(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or carried()
    check_names(
        backbone=backbones,
        method=arguments.method or [],
        dataset=[arguments.dataset],
        protocol=[arguments.protocol],
    )
    from ..analysis.calibration import calibrate, store_thresholds

    quiet_libraries()
    cell = (arguments.dataset, arguments.protocol, run_options(arguments))
    stores = calibrate(backbones, arguments.method, *cell)
    if not reports():
        return
    path, thresholds = store_thresholds(stores, *cell)
    for method, threshold in thresholds.items():
        print(f"{method:22} {threshold:g}")
    print_written(path)


def _write_analysis(
    table: pd.DataFrame, results: Path, stem: str, draw: Callable[[Path], None] | None = None
) -> list[Path]:
    """CSV file and, where something draws it, figure; returns what was written."""
    from segscale.files import explained_writes

    from ..analysis.layers import FOLDER

    numbers, figure = (results / FOLDER / f"{stem}.{ending}" for ending in ("csv", "png"))
    with explained_writes(results / FOLDER):
        numbers.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(numbers, index=False)
        if draw is None:
            return [numbers]
        draw(figure)
    return [numbers, figure]
