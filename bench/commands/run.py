"""Commands that run backbones: for their numbers, or for their cost."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import command
from .report import tabulate_runs
from .steps import exit_where, print_written, quiet_libraries

if TYPE_CHECKING:
    from ..runs.store import RunStore

_examples = ["segscale bench --limit 20", "segscale bench --backbone pocket-sd15,pocket-sd3 --method vanilla,goca"]


@command(resumes=True, examples=_examples)
@options.grid(options.backbones, options.methods)
@click.option("--with-untrained", is_flag=True, help="add each backbone with random denoiser weights")
@options.pipeline
@options.run
def bench(grid: options.Grid, run_options: RunOptions, with_untrained: bool) -> None:
    """Run backbones x methods x datasets, then write the tables."""
    variants = [run_options, replace(run_options, untrained=True)] if with_untrained else [run_options]
    _run_grid(grid, variants)
    if is_rank_zero():
        from ..report.files import write_leaderboard

        rows, expressions, unreadable = tabulate_runs(run_options.results)
        print_written(write_leaderboard(rows, expressions, run_options.results))
        exit_where(unreadable)


@command(
    resumes=True, examples=["segscale run --limit 20", "segscale run --backbone pocket-sd3 --method goca --limit 20"]
)
@options.grid(options.names("backbone", "pocket-sd15"), options.names("method", "vanilla"))
@click.option("--untrained", is_flag=True, help="random denoiser weights")
@options.pipeline
@options.run
def run(grid: options.Grid, run_options: RunOptions) -> None:
    """Evaluate methods on a dataset, store the run and print the IoU of every class. No tables are written."""
    stores = _run_grid(grid, [run_options])
    if is_rank_zero():
        for store in stores:
            _print_classes(store, run_options.results)


def _run_grid(grid: options.Grid, variants: list[RunOptions]) -> list[RunStore]:
    """Methods of one backbone, dataset and protocol share their forwards."""
    from segscale.registry import build

    from ..runs.loop import run_methods
    from ..runs.plan import build_methods, build_task

    quiet_libraries()
    tasks = [
        build_task(dataset_name, build("protocol", protocol_name), variants[0])
        for dataset_name, protocol_name in product(grid.dataset_names, grid.protocol_names)
    ]
    runs = [
        (backbone_name, build_methods(grid.method_names, backbone_name, task.protocol), task)
        for backbone_name, task in product(grid.backbone_names, tasks)
    ]
    return [store for run in runs for variant in variants for store in run_methods(*run, variant)]


def _print_classes(store: RunStore, results: Path) -> None:
    import numpy as np

    from ..report.evaluated import evaluate_run
    from ..report.markdown import format_share
    from ..report.tables import NO_INTERVAL_MARK
    from ..report.thresholds import Thresholds

    evaluated = evaluate_run(store, Thresholds(results))
    plan, score, counts = evaluated.plan, evaluated.score, evaluated.counts
    task = f"{plan.task.dataset.name} ({plan.task.protocol.label})"
    print(f"\n{plan.backbone.label} x {plan.method.name}{plan.method.variant} on {task}")
    for id, (name, iou) in enumerate(zip(evaluated.run.classes, score.class_iou, strict=True)):
        if id == evaluated.unscored_id:
            continue
        print(f"  {name:22} {'-' if np.isnan(iou) else f'{100 * iou:.1f}'}")
    print(f"  mIoU {format_share(evaluated.miou)}, aAcc {100 * score.accuracy:.1f}, {len(counts)} images")
    if evaluated.miou.no_interval:
        print(f"  {NO_INTERVAL_MARK} no interval: {evaluated.miou.no_interval}")
    for name, counted in (
        ("scores that are not finite", counts.not_finite),
        ("classes without token", counts.cut_classes),
    ):
        if counted.any():
            print(f"  {counted.sum()} {name}, in {(counted > 0).sum()} images")
    if skipped := store.skipped():
        print(f"  left out {len(skipped)} bad images")
        for image, reason in sorted(skipped.items()):
            print(f"    {image}: {reason}")
    print_written(store.folder)
