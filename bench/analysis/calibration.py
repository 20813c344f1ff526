"""The threshold of a protocol: chosen once on images that no test sees, and stored with where it comes from.

There is one per protocol, dataset and method, whatever the backbone, so that a scaling table tunes none of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segscale.errors import UserError
from segscale.files import explained_writes

from ...datasets.dataset import CALIBRATION, Dataset
from ...datasets.files import FileError
from ...methods.method import Method
from ..evaluation.metrics import total_miou
from ..report.thresholds import (
    Calibration,
    CalibrationFile,
    Curve,
    DamagedCalibrationError,
    calibration_path,
    read_calibration,
    write_calibration,
)
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..runs.plan import build_methods, build_task
from ..runs.record import StoredRun
from ..runs.store import RunStore
from ..tasks.protocol import BEST, Protocol
from ..tasks.task import Task

RULE = "highest mean over backbones of mIoU on the calibration split; of equals the nearest to 0, then the lowest"
DIGITS = 4


@dataclass(frozen=True)
class MeasuredRun:
    """A stored run on the calibration images."""

    run: StoredRun
    images: int
    curve: Curve


def calibration_task(dataset_name: str, protocol: Protocol, options: RunOptions) -> Task:
    """The protocol on the calibration split.

    Raises:
        UserError: Where it leaves no threshold to choose, or where the calibration split has evaluated images, under
            whatever id.
    """
    if protocol.threshold == BEST:
        raise UserError(f"protocol {protocol.name} chooses its threshold on the images evaluated", "calibrate standard")
    task = build_task(dataset_name, protocol, replace(options, split=CALIBRATION))
    if len(task.protocol.thresholds) == 1:
        what = f"protocol {protocol.name} has no threshold to choose on {dataset_name}"
        raise UserError(what, "nothing needs calibration")
    _refuse_shared(
        task.dataset, build_task(dataset_name, protocol, replace(options, split=None, captions=None)).dataset
    )
    return task


def _refuse_shared(calibrated: Dataset, evaluated: Dataset) -> None:
    """Compare ids first, because that reads no file."""
    splits = f"its splits {calibrated.split} and {evaluated.split}"
    hint = "calibrate on images that are not evaluated"
    shared = sorted({*calibrated.ids} & {*evaluated.ids})
    if shared:
        raise UserError(f"{len(shared)} images of {evaluated.name} are in {splits}, such as {shared[0]}", hint)
    chosen = dict(_image_digests(calibrated))
    for digest, id in _image_digests(evaluated):
        if digest in chosen:
            raise UserError(f"{evaluated.name} has one picture twice in {splits}, as {chosen[digest]} and {id}", hint)


def _image_digests(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Digest and id of every image; those that cannot be read are named when they are run."""
    for index, id in enumerate(dataset.ids):
        with suppress(FileError):
            yield dataset.image_digest(index), id


def calibrate(
    backbone_names: Sequence[str], method_names: Sequence[str] | None, task: Task, options: RunOptions
) -> list[RunStore]:
    """Run on the calibration split; runs are stored below ``<results>/calibration`` and resumed there.

    Args:
        backbone_names: The threshold is chosen for all of them together.
        method_names: Or None for all that suit the protocol and normalise their scores.
        task: As of ``calibration_task``.
        options: Of the runs.

    Raises:
        UserError: For a method whose scores are not normalised.
    """
    kept = replace(options, results=options.results / "calibration")
    grid = [(name, _calibrated_methods(method_names, name, task.protocol)) for name in dict.fromkeys(backbone_names)]
    return [store for name, methods in grid for store in run_methods(name, methods, task, kept)]


def _calibrated_methods(names: Sequence[str] | None, backbone_name: str, protocol: Protocol) -> list[Method]:
    methods = build_methods(names, backbone_name, protocol)
    raw = [method.name for method in methods if not method.normalised]
    if names and raw:
        raise UserError(f"{raw[0]} has an edge of its own, which no threshold moves", "leave it out")
    return [method for method in methods if method.normalised]


def store_thresholds(
    stores: Iterable[RunStore], task: Task, options: RunOptions, overwrite: bool
) -> tuple[Path, dict[str, float]]:
    """Choose the threshold of every method from its runs and write it, beside those of other methods.

    Returns:
        The file, and the thresholds of all methods in it.

    Raises:
        UserError: For a run that lacks an image, or where a larger calibration would be replaced without ``overwrite``.
    """
    due = task.dataset.ids[: options.limit]
    by_method: dict[str, list[MeasuredRun]] = {}
    for store in stores:
        measured = _measured(store, due)
        by_method.setdefault(measured.run.plan.method.name, []).append(measured)
    path = calibration_path(options.results, task.protocol.name, task.dataset.name)
    kept = _stored_methods(path, overwrite)
    chosen = {name: choose(runs) for name, runs in by_method.items()}
    if not overwrite:
        for name in chosen.keys() & kept.keys():
            _refuse_loss(path, name, kept[name], chosen[name])
    methods = dict(sorted({**kept, **chosen}.items()))
    with explained_writes(path.parent):
        content = CalibrationFile(task.protocol.name, task.dataset.name, CALIBRATION, RULE, methods)
        write_calibration(path, content)
    return path, {name: calibration.threshold for name, calibration in methods.items()}


def _stored_methods(path: Path, overwrite: bool) -> Mapping[str, Calibration]:
    """What stands in the file; nothing where it is damaged and may be replaced."""
    try:
        stored = read_calibration(path)
    except DamagedCalibrationError:
        if not overwrite:
            raise
        return {}
    return {} if stored is None else stored.methods


def _refuse_loss(path: Path, method_name: str, stored: Calibration, chosen: Calibration) -> None:
    """Raise UserError where a stored curve would be replaced by none, or by one of fewer images or another run."""
    lost = [name for name, curve in stored.backbones.items() if curve.run != _run_of(chosen, name)]
    if stored.images > chosen.images or lost:
        what = f"{path} holds {method_name} calibrated on {stored.images} images of {', '.join(stored.backbones)}"
        how = f"its curve of {lost[0]} would be lost" if lost else f"here are {chosen.images}"
        raise UserError(f"{what}; {how}", "replace it with --overwrite")


def _run_of(calibration: Calibration, backbone_name: str) -> str | None:
    curve = calibration.backbones.get(backbone_name)
    return None if curve is None else curve.run


def choose(runs: Sequence[MeasuredRun]) -> Calibration:
    """One method's threshold from its runs, one per backbone."""
    first, plan = runs[0], runs[0].run.plan
    thresholds = plan.task.protocol.thresholds
    mean = np.mean([run.curve.miou for run in runs], axis=0).round(DIGITS)
    best = max(range(len(thresholds)), key=lambda i: (mean[i], -abs(thresholds[i]), -thresholds[i]))
    return Calibration(
        threshold=thresholds[best],
        thresholds=thresholds,
        mean=tuple(mean.tolist()),
        images=first.images,
        seed=plan.seed,
        version=plan.version,
        packages=first.run.machine.packages,
        backbones=dict(sorted((measured.run.plan.backbone.name, measured.curve) for measured in runs)),
    )


def _measured(store: RunStore, due: Sequence[str]) -> MeasuredRun:
    run = store.read()
    counts = store.load(run).only(due)
    missing = len({*due}) - len(counts) - len(store.skipped().keys() & set(due))
    if missing or not len(counts):
        what = f"{store.folder} lacks {missing or 'all'} of {len(due)} images"
        raise UserError(what, "run the same command again when all processes are done")
    averaging = run.table_rules.averaging
    miou = tuple(round(100 * total_miou(counts.at_threshold(t), averaging), DIGITS) for t in counts.thresholds)
    backbone = run.plan.backbone
    return MeasuredRun(run, len(counts), Curve(backbone.weights, backbone.dtype, run.run_id, miou))
