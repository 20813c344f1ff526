"""Tables from stored runs: long format, per class, scaling table, leaderboard. No model is needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from tabulate import tabulate

from segscale.errors import UserError
from segscale.registry import build

from ..analysis.calibration import SPLIT, calibrated_threshold
from ..evaluation.metrics import Score, score
from ..runs.identity import Plan
from ..runs.store import RunStore, chosen_areas
from ..tasks.protocol import BEST, Protocol

# What may differ between runs of one backbone and method on the same images.
TELLING = ("seed", "dtype", "quantize", "weights", "version")
POCKET_NOTE = (
    "Pocket backbones are tiny twins trained on generated scenes. Their numbers say that the harness works; "
    "they say nothing about the real backbones."
)
BEST_MARK = "*"
BEST_NOTE = f"{BEST_MARK} Best threshold of the sweep, chosen on the very images evaluated."
DEFAULT_MARK = "†"
DEFAULT_NOTE = f"{DEFAULT_MARK} The protocol's default threshold, not calibrated for this dataset and method."
# A protocol without oracle is called like the one whose classes are known, and this.
FULL = "-full"

ThresholdSource = Literal["best", "calibrated", "default", "none"]


def find_runs(results: Path) -> list[RunStore]:
    """All stored runs below ``results``, in a stable order."""
    folders = sorted(path.parent for path in (results / "runs").glob("*/*/*/*/run.json"))
    if not folders:
        raise UserError(f"there are no runs in {results}/runs", "make some with: segscale bench")
    return [RunStore(folder) for folder in folders]


@dataclass(frozen=True)
class Evaluated:
    """A stored run with its images and its score at ``threshold``.

    threshold_from: ``best`` on the images evaluated, ``calibrated`` on others, the protocol's ``default``, or
    ``none``, where the rule uses none.
    """

    run: dict[str, Any]
    plan: Plan
    frame: pd.DataFrame
    score: Score
    protocol: Protocol
    threshold: float
    threshold_from: ThresholdSource


def evaluate_store(store: RunStore, results: Path | None = None, images: Collection[str] | None = None) -> Evaluated:
    """Score of one run, or of its part on ``images``, at the threshold calibrated in ``results`` where there is one.

    Raises UserError for a run without images or that is not what its folder says.
    """
    run = store.read()
    plan = Plan(**run["plan"])
    if plan.identity != store.folder.name:
        raise UserError(f"{store.folder}/run.json does not match its folder", "remove the folder and run again")
    protocol: Protocol = build("protocol", plan.protocol["name"])
    if plan.protocol.get("background_rule") == "none":
        protocol = protocol.without_background()
    thresholds = plan.protocol["thresholds"]
    threshold, source = _threshold(plan, protocol, results)
    if threshold not in (*thresholds, BEST):
        raise UserError(f"{store.folder} has no areas at threshold {threshold}", "run it again")
    frame: Any = store.load()
    if images is not None:
        frame = frame[frame["image"].isin([*images])]
    if frame.empty:
        raise UserError(f"{store.folder} holds no image yet", "run it first")
    chosen, areas = chosen_areas(run, frame, threshold, protocol.averaging)
    return Evaluated(run, plan, frame, score(areas, protocol.averaging), protocol, chosen, source)


def _threshold(plan: Plan, protocol: Protocol, results: Path | None) -> tuple[float | str, ThresholdSource]:
    if protocol.threshold == BEST:
        return BEST, "best"
    if len(plan.protocol["thresholds"]) == 1:
        return protocol.threshold, "none"
    # Words of raw attention compete as they are: no offset is of their scale on every backbone.
    if not plan.method.get("stretched", True):
        return 0.0, "none"
    # On the images it was chosen on, the calibrated threshold would be another best one.
    if results is not None and plan.dataset["split"] != SPLIT:
        stored = calibrated_threshold(results, protocol.name, plan.dataset["name"], plan.method["name"])
        if stored is not None:
            return stored, "calibrated"
    return protocol.threshold, "default"


def evaluate_runs(results: Path) -> list[Evaluated]:
    """All runs below ``results`` that hold an image."""
    evaluated = [evaluate_store(store, results) for store in find_runs(results) if store.done()]
    if not evaluated:
        raise UserError("no run holds an image yet", "make some with: segscale bench")
    return evaluated


def method_label(method: dict[str, Any]) -> str:
    """The method's name, and the attention that it reads where that is not what its paper reads."""
    return f"{method['name']} (cross-attention)" if method.get("attention") == "cross" else method["name"]


def backbone_label(backbone: dict[str, object]) -> str:
    return f"{backbone['name']} (untrained)" if backbone["untrained"] else str(backbone["name"])


def long_table(evaluated: Iterable[Evaluated]) -> pd.DataFrame:
    """One row per run; mIoU, its interval and accuracy in percent, seconds per image, peak memory in MiB.

    threshold_from: as of ``Evaluated``. forwards: of the denoiser that the method alone needs per image, unknown of a
    run that was killed; in seconds_per_image those that it shared are divided.
    """
    rows = []
    for one in evaluated:
        plan, result, frame = one.plan, one.score, one.frame
        rows.append(
            {
                "backbone": backbone_label(plan.backbone),
                "parameters": one.run.get("parameters"),
                "method": method_label(plan.method),
                "dataset": plan.dataset["name"],
                "split": plan.dataset["split"],
                "protocol": one.protocol.name,
                "threshold": one.threshold,
                "threshold_from": one.threshold_from,
                "miou": 100 * result.miou,
                "low": 100 * result.low,
                "high": 100 * result.high,
                "accuracy": 100 * result.accuracy,
                "images": len(frame),
                "split_images": one.run["split_images"],
                "seed": plan.seed,
                "dtype": plan.backbone["dtype"],
                "quantize": plan.backbone["quantize"],
                "weights": plan.backbone["weights"],
                "forwards": one.run.get("forwards_alone"),
                "seconds_per_image": frame["seconds"].mean(),
                "peak_mib": frame["peak_bytes"].max() / 2**20,
                "version": plan.version,
                "identity": plan.identity,
            }
        )
    order = ["dataset", "split", "protocol", "method", "parameters", "backbone", "identity"]
    return _labelled(pd.DataFrame(rows).sort_values(order, ignore_index=True))


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Adds ``label``: the backbone, and whatever tells runs apart that would share a cell of a table."""
    table = table.assign(label=table["backbone"])
    groups: Any = table.groupby(["dataset", "split", "protocol", "method", "backbone"])
    for _, group in groups:
        for column in TELLING:
            if group[column].nunique(dropna=False) > 1:
                table.loc[group.index, "label"] += group[column].map(lambda value, name=column: f", {name} {value}")
    return table


def class_table(evaluated: Iterable[Evaluated]) -> pd.DataFrame:
    """One row per run and class; IoU in percent, empty where the class is neither predicted nor labelled."""
    rows = []
    for one in evaluated:
        rows += [
            {
                "backbone": backbone_label(one.plan.backbone),
                "method": method_label(one.plan.method),
                "dataset": one.plan.dataset["name"],
                "protocol": one.protocol.name,
                "class": name,
                "iou": 100 * iou,
                "identity": one.plan.identity,
            }
            for name, iou in zip(one.run["classes"], one.score.class_iou, strict=True)
        ]
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader of tables with these rows must know."""
    applies = {
        POCKET_NOTE: table["backbone"].str.startswith("pocket-"),
        BEST_NOTE: table["threshold_from"] == "best",
        DEFAULT_NOTE: table["threshold_from"] == "default",
    }
    return [note for note, rows in applies.items() if rows.any()]


def interval_text(row: Any) -> str:
    mark = {"best": BEST_MARK, "default": DEFAULT_MARK}.get(row["threshold_from"], "")
    return f"{row['miou']:.1f}{mark} [{row['low']:.1f}, {row['high']:.1f}]"


def cell_text(row: Any) -> str:
    partial = "" if row["images"] == row["split_images"] else f" ({row['images']} images)"
    return interval_text(row) + partial


def scaling_table(table: pd.DataFrame) -> str:
    """Markdown: rows method x backbone by size, columns dataset, split and protocol; mIoU with 95 % interval.

    Beside a protocol and the same with the full vocabulary stands their difference in points.
    """
    column = table["dataset"] + " " + table["split"] + " (" + table["protocol"] + ")"
    shown = table.assign(column=column, cell=table.apply(cell_text, axis=1), size=table["parameters"].map(millions))
    cells = shown.groupby(["method", "label", "column"], sort=False)["cell"].agg("; ".join).unstack("column")
    order = shown.sort_values(["method", "parameters", "label"]).drop_duplicates(["method", "label"])
    rows = pd.MultiIndex.from_arrays([order["method"], order["label"]], names=["method", "backbone"])
    for full, gap in oracle_gaps(shown).items():
        cells.insert(list(cells.columns).index(full) + 1, gap.name, gap)
    cells = cells.reindex(rows).fillna("-").reset_index()
    cells.insert(2, "parameters", order["size"].to_numpy())
    return tabulate(cells, headers="keys", tablefmt="github", showindex=False, disable_numparse=True)


def oracle_gaps(table: pd.DataFrame) -> dict[str, pd.Series]:
    """What knowing the classes of an image is worth, in points: oracle - full, where both saw as many images.

    By the column of the full vocabulary; a series over method and label.
    """
    gaps: dict[str, pd.Series] = {}
    by_row = ["method", "label"]
    groups: Any = table[table["protocol"].str.endswith(FULL)].groupby(["dataset", "split", "protocol", "column"])
    for (dataset, split, protocol, column), full in groups:
        known = table["protocol"] == protocol.removesuffix(FULL)
        oracle = table[(table["dataset"] == dataset) & (table["split"] == split) & known]
        both = oracle.merge(full, on=[*by_row, "images"], suffixes=("", "_full")).set_index(by_row)
        if len(both):
            points: Any = (both["miou"] - both["miou_full"]).map("{:+.1f}".format).groupby(level=by_row).agg("; ".join)
            gaps[column] = points.rename(f"{dataset} {split} (oracle - full)")
    return gaps


def millions(parameters: float | None) -> str:
    return "-" if parameters is None or math.isnan(parameters) else f"{parameters / 1e6:.1f} M"


def leaderboard(table: pd.DataFrame) -> str:
    """Markdown: one table per dataset and protocol, best first, with everything a row must carry."""
    parts = ["# Leaderboard", ""]
    groups: Any = table.groupby(["dataset", "split", "protocol"])
    for (dataset, split, protocol), group in groups:
        ranked = group.sort_values("miou", ascending=False)
        shown = pd.DataFrame(
            {
                "method": ranked["method"],
                "backbone": ranked["backbone"],
                "mIoU [95 %]": ranked.apply(interval_text, axis=1),
                "threshold": ranked["threshold"].map("{:g}".format),
                "aAcc": ranked["accuracy"].map("{:.1f}".format),
                "images": [f"{i} of {n}" for i, n in zip(ranked["images"], ranked["split_images"], strict=True)],
                "seed": ranked["seed"],
                "weights": ranked["weights"],
                "dtype": ranked["dtype"],
                "forwards": ["-" if pd.isna(count) else f"{count:.3g}" for count in ranked["forwards"]],
                "s / image": ranked["seconds_per_image"].map("{:.3f}".format),
                "peak MiB": ranked["peak_mib"].map("{:.0f}".format),
                "version": ranked["version"],
                "run": ranked["identity"],
            }
        )
        parts += [f"## {dataset} {split}, protocol {protocol}", ""]
        parts += [tabulate(shown, headers="keys", tablefmt="github", showindex=False, disable_numparse=True), ""]
    for note in notes(table):
        parts += [note, ""]
    return "\n".join(parts)
