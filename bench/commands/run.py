"""What each command does. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from segscale.catalogue import KINDS, describe
from segscale.errors import UserError

from .options import (
    carried,
    check_names,
    load_options,
    print_written,
    quiet_libraries,
    reports,
    run_options,
    weights_source,
    without_weights,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..runs.plan import RunOptions
    from ..runs.store import RunStore


def list_names(arguments: argparse.Namespace) -> None:
    for kind, descriptions in {kind: describe(kind) for kind in KINDS}.items():
        print(f"{kind}s")
        for name, line in descriptions.items():
            print(f"  {name:22} {line}")


def doctor(arguments: argparse.Namespace) -> None:
    from ..doctor import findings

    quiet_libraries()
    for kind, name, state in findings():
        print(f"{kind:8} {name:22} {state}")


def run(arguments: argparse.Namespace) -> None:
    options = replace(run_options(arguments), untrained=arguments.untrained)
    stores = _run_cells(arguments, [options])
    if reports():
        for store in stores:
            _print_classes(store, arguments.results)


def bench(arguments: argparse.Namespace) -> None:
    options = run_options(arguments)
    variants = [options, replace(options, untrained=True)] if arguments.with_untrained else [options]
    _run_cells(arguments, variants)
    if reports():
        _write_leaderboard(arguments.results, _write_tables(arguments.results))


def table(arguments: argparse.Namespace) -> None:
    rows = _write_tables(arguments.results)
    if arguments.paper is not None:
        from ..report.published import beside_published, read_published

        print(f"\n{beside_published(rows, read_published(arguments.paper))}")


def leaderboard(arguments: argparse.Namespace) -> None:
    from ..report.tables import evaluate_runs, long_table

    _write_leaderboard(arguments.results, long_table(evaluate_runs(arguments.results)))


def predict(arguments: argparse.Namespace) -> None:
    check_names(backbone=[arguments.backbone], method=[arguments.method])
    if not arguments.classes:
        raise UserError("the class list is empty", "name at least one, as in --classes 'dog, grass'")
    from PIL import ImageOps

    from ...datasets.files import read_image
    from ..segmenter import load

    quiet_libraries()
    image = ImageOps.exif_transpose(read_image(arguments.image))
    segmenter = load(arguments.backbone, arguments.method, arguments.weights, load_options(arguments))
    result = segmenter(image, arguments.classes, arguments.caption, arguments.seed)
    for name, pixels in result.areas.items():
        print(f"{name:22} {100 * pixels / result.labels.size:5.1f} %")
    for path in result.save(arguments.output, arguments.image.stem):
        print_written(path)


def sites(arguments: argparse.Namespace) -> None:
    check_names(backbone=[arguments.backbone])
    from tabulate import tabulate

    from ...methods.build import method_defaults

    quiet_libraries()
    backbone = without_weights(arguments.backbone)
    size = arguments.size or method_defaults(arguments.backbone).image_size
    backbone.check_size(size)
    rows = [
        (site.layer, site.name, site.kind, site.heads, f"{site.grid.height} x {site.grid.width}")
        for site in backbone.sites(size)
    ]
    print(tabulate(rows, headers=("layer", "site", "kind", "heads", "grid"), tablefmt="simple"))


def perf(arguments: argparse.Namespace) -> None:
    check_names(backbone=[arguments.backbone], method=arguments.method)
    from ..perf import compare
    from ..runs.plan import build_backbone, build_method

    quiet_libraries()
    source = weights_source(arguments.backbone, "random") if arguments.weights is None else "pretrained"
    load = replace(load_options(arguments), source=source)
    backbone = build_backbone(arguments.backbone, load, arguments.weights)
    choices = {} if arguments.size is None else {"image_size": arguments.size}
    methods = [build_method(name, arguments.backbone, **choices) for name in arguments.method]
    result = compare(backbone, methods, arguments.repeats)
    kept = f"{result.text_maps} text and {result.pixel_maps} pixel maps"
    print(f"{arguments.backbone}, {methods[0].settings.image_size} px, {', '.join(arguments.method)}: {kept}")
    print(f"  whole image      {result.ratio:5.2f} x plain")
    print(f"  denoiser alone   {result.denoiser_ratio:5.2f} x plain")
    print(f"  extra memory     {result.extra_bytes / 2**30:5.2f} GiB")
    shares = (("prompt", result.text), ("image", result.image), ("plain", result.plain), ("observed", result.observed))
    for name, cost in shares:
        print(f"  {name:16} {cost.seconds:8.2f} s, peak {cost.peak_bytes / 2**30:.2f} GiB")


def _run_cells(arguments: argparse.Namespace, variants: list[RunOptions]) -> list[RunStore]:
    """All cells of the grid; methods of one backbone, dataset and protocol share their forwards."""
    backbones = arguments.backbone or carried()
    check_names(
        backbone=backbones, method=arguments.method or [], dataset=arguments.dataset, protocol=arguments.protocol
    )
    from ..runs.loop import run_methods
    from ..runs.plan import build_methods

    quiet_libraries()
    cells = [
        (backbone, build_methods(arguments.method, backbone, protocol), dataset, protocol, options)
        for backbone, dataset, protocol in product(backbones, arguments.dataset, arguments.protocol)
        for options in variants
    ]
    return [store for cell in cells for store in run_methods(*cell)]


def _write_tables(results: Path) -> pd.DataFrame:
    """Prints methods x backbones, writes the scaling table, CSV files and figure; returns the long table."""
    from segscale.files import explained_writes

    from ..report.figures import scaling_figure
    from ..report.matrix import method_matrix
    from ..report.tables import class_table, evaluate_runs, long_table, notes, scaling_table

    evaluated = evaluate_runs(results)
    rows = long_table(evaluated)
    print(method_matrix(rows))
    for note in notes(rows):
        print(f"\n{note}")
    print()
    with explained_writes(results):
        long = results / "scaling.md"
        long.write_text("\n\n".join([scaling_table(rows), *notes(rows)]) + "\n")
        print_written(long)
        for name, frame in (("scaling.csv", rows), ("classes.csv", class_table(evaluated))):
            frame.to_csv(results / name, index=False)
            print_written(results / name)
        figure = results / "figures" / "scaling.png"
        scaling_figure(rows, figure)
        print_written(figure)
    return rows


def _write_leaderboard(results: Path, rows: pd.DataFrame) -> None:
    from segscale.files import explained_writes

    from ..report.tables import leaderboard

    path = results / "leaderboard.md"
    with explained_writes(results):
        path.write_text(leaderboard(rows))
    print_written(path)


def _print_classes(store: RunStore, results: Path) -> None:
    import numpy as np

    from ..report.tables import backbone_label, evaluate_store

    one = evaluate_store(store, results)
    plan, result = one.plan, one.score
    print(f"\n{backbone_label(plan.backbone)} x {plan.method['name']} on {plan.dataset['name']} ({one.protocol.name})")
    for name, iou in zip(one.run["classes"], result.class_iou, strict=True):
        print(f"  {name:22} {'-' if np.isnan(iou) else f'{100 * iou:.1f}'}")
    interval = f"[{100 * result.low:.1f}, {100 * result.high:.1f}]"
    print(f"  mIoU {100 * result.miou:.1f} {interval}, aAcc {100 * result.accuracy:.1f}, {len(one.frame)} images")
    if skipped := store.skipped():
        print(f"  left out {len(skipped)} bad images")
        for image, why in sorted(skipped.items()):
            print(f"    {image}: {why}")
    print_written(store.folder)
