"""What the commands do that analyse and calibrate. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse
from dataclasses import replace

from segscale.catalogue import config_file

from .command_options import carried, print_written, quiet_libraries, reports, run_options, weights_source


def analyse(arguments: argparse.Namespace) -> None:
    """Prints the table of ``arguments.analysis``, writes CSV file and figure."""
    config_file("backbone", arguments.backbone)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from ..backbones.loading import LoadOptions
    from ..backbones.modalities import require_joint
    from .analysis import ANALYSES, averages_on, printable
    from .figures import analysis_figure
    from .plan import build_backbone
    from .writing import explained_writes

    quiet_libraries()
    # Before any weights are fetched.
    shape = build_backbone(arguments.backbone, LoadOptions(source=weights_source(arguments.backbone, "meta")))
    require_joint(shape, shape.recommended.image_size)
    analysis, names = ANALYSES[arguments.analysis], (arguments.backbone, arguments.dataset, arguments.protocol)
    table = averages_on(analysis, *names, run_options(arguments), arguments.timestep)
    folder = arguments.results / "analysis"
    numbers, figure = (folder / f"{arguments.backbone}-{analysis.name}.{ending}" for ending in ("csv", "png"))
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(numbers, index=False)
        analysis_figure(table, analysis, figure)
    print(printable(table, analysis))
    for path in (numbers, figure):
        print_written(path)


def quirks(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or carried()
    config_file("dataset", arguments.dataset)
    for name in backbones:
        config_file("backbone", name)
    from .quirks import effects, table
    from .writing import explained_writes

    quiet_libraries()
    options = run_options(arguments)
    rows = effects(backbones, arguments.dataset, replace(options, results=arguments.results / "analysis"))
    print(table(rows))
    numbers = arguments.results / "analysis" / "quirks.csv"
    with explained_writes(numbers.parent):
        rows.to_csv(numbers, index=False)
    print_written(numbers)


def layers(arguments: argparse.Namespace) -> None:
    """Prints the mIoU of every block or head alone, writes CSV file and figure."""
    config_file("backbone", arguments.backbone)
    for name in arguments.compared:
        config_file("method", name)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from ..backbones.loading import LoadOptions
    from .figures import heads_figure, layers_figure
    from .layers import FOLDER, LayerAnalysis, best_text, evaluate_parts, parts_of, printable
    from .plan import build_backbone
    from .tables import notes
    from .writing import explained_writes

    quiet_libraries()
    # Before any weights are fetched.
    shape = build_backbone(arguments.backbone, LoadOptions(source=weights_source(arguments.backbone, "meta")))
    sites = shape.sites(shape.recommended.image_size)
    parts = parts_of(arguments.backbone, sites, arguments.sites, arguments.heads)
    analysis = LayerAnalysis(arguments.method, parts, tuple(arguments.compared), arguments.timestep)
    names = (arguments.backbone, arguments.dataset, arguments.protocol)
    table = evaluate_parts(analysis, *names, run_options(arguments))
    if not reports():
        return
    kind, draw = ("heads", heads_figure) if arguments.heads else ("layers", layers_figure)
    folder = arguments.results / FOLDER
    numbers, figure = (folder / f"{arguments.backbone}-{kind}.{ending}" for ending in ("csv", "png"))
    with explained_writes(folder):
        table.to_csv(numbers, index=False)
        draw(table, figure)
    print(f"{printable(table)}\n{best_text(table)}")
    for note in notes(table):
        print(f"\n{note}")
    for path in (numbers, figure):
        print_written(path)


def calibrate(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or carried()
    for name in backbones:
        config_file("backbone", name)
    for name in arguments.method or []:
        config_file("method", name)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from .calibration import calibrate, store_thresholds

    quiet_libraries()
    cell = (arguments.dataset, arguments.protocol, run_options(arguments))
    stores = calibrate(backbones, arguments.method, *cell)
    if not reports():
        return
    path, thresholds = store_thresholds(stores, *cell)
    for method, threshold in thresholds.items():
        print(f"{method:22} {threshold:g}")
    print_written(path)
