"""Runs of small cells, as many tests need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segscale.bench.report.evaluated import EvaluatedRun, evaluate_run
from segscale.bench.report.thresholds import Thresholds
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.runs.store import RunStore
from segscale.methods.method import Method
from segscale.registry import build


def run_cell(
    backbone_name: str, methods: Sequence[Method], dataset_name: str, protocol_name: str, options: RunOptions
) -> list[RunStore]:
    """Stores of methods on one backbone, dataset and protocol."""
    return run_methods(
        backbone_name, methods, build_task(dataset_name, build("protocol", protocol_name), options), options
    )


def run_named(
    backbone_name: str, method_names: Sequence[str], dataset_name: str, protocol_name: str, options: RunOptions
) -> list[RunStore]:
    """As ``run_cell``, methods by name."""
    methods = build_methods(method_names, backbone_name, build("protocol", protocol_name))
    return run_cell(backbone_name, methods, dataset_name, protocol_name, options)


def evaluated(store: RunStore, results: Path | None = None) -> EvaluatedRun:
    """The run at the thresholds calibrated in ``results``, by default at those of no folder."""
    return evaluate_run(store, Thresholds(results or store.folder))
