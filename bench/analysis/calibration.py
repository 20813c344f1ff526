"""The threshold of a protocol: chosen once on images that no test sees, and stored with where it comes from.

There is one per protocol, dataset and method, whatever the backbone, so that a scaling table tunes none of its rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segscale.errors import UserError
from segscale.files import explained_writes, replaced
from segscale.registry import build

from ...datasets.dataset import Dataset
from ...methods.method import Method
from ..evaluation.metrics import total_miou
from ..runs.identity import Plan
from ..runs.loop import run_methods
from ..runs.plan import RunOptions, build_dataset, build_methods
from ..runs.store import RunStore, swept_areas
from ..tasks.protocol import BEST, Protocol

SPLIT = "calibration"
RULE = "highest mean over backbones of mIoU on the calibration split; of equals the nearest to 0, then the lowest"
DIGITS = 4


@dataclass(frozen=True)
class Curve:
    """One backbone on the calibration images. miou: in percent, at every threshold.

    weights: their fingerprint; run: identity of the stored run.
    """

    weights: str
    dtype: str
    run: str
    miou: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """A stored run on the calibration images. packages: versions of what it ran on."""

    plan: Plan
    packages: dict[str, str]
    images: int
    curve: Curve


@dataclass(frozen=True)
class Calibration:
    """A threshold and everything that it follows from. mean: of the backbones' curves."""

    threshold: float
    thresholds: tuple[float, ...]
    mean: tuple[float, ...]
    images: int
    seed: int
    version: str
    packages: dict[str, str]
    backbones: dict[str, Curve]


def calibration_file(results: Path, protocol: str, dataset: str) -> Path:
    return results / "calibration" / f"{protocol}-{dataset}.json"


def calibrate(
    backbones: Sequence[str], methods: Sequence[str] | None, dataset: str, protocol: str, options: RunOptions
) -> list[RunStore]:
    """Runs on the calibration split, stored below ``<results>/calibration`` and resumed there; no table reads them.

    methods: by name, or all that suit the protocol and stretch their scores. Raises UserError where there is no
    threshold to choose.
    """
    _, options = _calibration_images(dataset, protocol, options)
    grid = [(backbone, _calibrated(methods, backbone, protocol)) for backbone in dict.fromkeys(backbones)]
    return [store for backbone, built in grid for store in run_methods(backbone, built, dataset, protocol, options)]


def _calibrated(names: Sequence[str] | None, backbone: str, protocol: str) -> list[Method]:
    methods = build_methods(names, backbone, protocol)
    raw = [method.name for method in methods if not method.stretched]
    if names and raw:
        raise UserError(f"{raw[0]} gives raw attention, whose threshold is 0", "leave it out")
    return [method for method in methods if method.stretched]


def store_thresholds(
    stores: Iterable[RunStore], dataset: str, protocol: str, options: RunOptions
) -> tuple[Path, dict[str, float]]:
    """Chooses the threshold of every method from its runs and writes it, with those of other methods; all are returned.

    Raises UserError for a run that lacks an image.
    """
    data, _ = _calibration_images(dataset, protocol, options)
    wanted = data.ids[: options.limit]
    found: dict[str, list[Measured]] = {}
    for store in stores:
        run = _measured(store, wanted, build("protocol", protocol))
        found.setdefault(run.plan.method["name"], []).append(run)
    path = calibration_file(options.results, protocol, dataset)
    kept = _read(path)["methods"] if path.exists() else {}
    chosen = {name: asdict(choose(runs)) for name, runs in found.items()}
    methods = dict(sorted((kept | chosen).items()))
    content = {"protocol": protocol, "dataset": dataset, "split": SPLIT, "rule": RULE}
    with explained_writes(path.parent):
        _write(path, content | {"methods": methods})
    return path, {name: one["threshold"] for name, one in methods.items()}


def choose(runs: Sequence[Measured]) -> Calibration:
    """One method's threshold from its runs, one per backbone."""
    first, plan = runs[0], runs[0].plan
    thresholds = tuple(plan.protocol["thresholds"])
    mean = np.mean([run.curve.miou for run in runs], axis=0).round(DIGITS)
    best = max(range(len(thresholds)), key=lambda i: (mean[i], -abs(thresholds[i]), -thresholds[i]))
    return Calibration(
        threshold=thresholds[best],
        thresholds=thresholds,
        mean=tuple(mean.tolist()),
        images=first.images,
        seed=plan.seed,
        version=plan.version,
        packages=first.packages,
        backbones=dict(sorted((run.plan.backbone["name"], run.curve) for run in runs)),
    )


def calibrated_threshold(results: Path, protocol: str, dataset: str, method: str) -> float | None:
    """The stored threshold, None where nothing was calibrated."""
    path = calibration_file(results, protocol, dataset)
    if not path.exists():
        return None
    stored = _read(path)["methods"].get(method)
    return None if stored is None else stored["threshold"]


def _calibration_images(dataset: str, protocol: str, options: RunOptions) -> tuple[Dataset, RunOptions]:
    """The split and how it is run. Raises UserError where the protocol leaves no threshold to choose."""
    options = replace(options, split=SPLIT, results=options.results / "calibration")
    rules: Protocol = build("protocol", protocol)
    if rules.threshold == BEST:
        raise UserError(f"protocol {protocol} chooses its threshold on the images evaluated", "calibrate standard")
    data = build_dataset(dataset, options, rules)
    if len(rules.resolved(data).thresholds) == 1:
        raise UserError(f"protocol {protocol} has no threshold to choose on {dataset}", "nothing needs calibration")
    return data, options


def _measured(store: RunStore, wanted: Sequence[str], rules: Protocol) -> Measured:
    run = store.read()
    plan = Plan(**run["plan"])
    frame = store.load()
    frame = frame.loc[frame["image"].isin(wanted), :]
    missing = len(wanted) - len(frame) - len(store.skipped().keys() & set(wanted))
    if missing or frame.empty:
        what = f"{store.folder} lacks {missing or 'all'} of {len(wanted)} images"
        raise UserError(what, "run the same command again when all processes are done")
    miou = tuple(round(100 * total_miou(areas, rules.averaging), DIGITS) for areas in swept_areas(run, frame))
    curve = Curve(plan.backbone["weights"], plan.backbone["dtype"], plan.identity, miou)
    return Measured(plan, run["packages"], len(frame), curve)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        _ = {name: float(one["threshold"]) for name, one in content["methods"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what calibrate wrote", "remove it and run: segscale calibrate") from error
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all; a list of numbers stays on its line."""
    indented = json.dumps(content, indent=2)
    text = re.sub(r"\[([^][{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", indented)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(text + "\n")
