"""Seg4Diff's layer analysis (arXiv 2509.18096): every block, or every head of every block, alone as a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from tabulate import tabulate

from segscale.errors import UserError
from segscale.registry import build

from ...backbones.attention.maps import Timestep
from ...backbones.attention.sites import Site
from ...methods.method import Method
from ..report.tables import evaluate_store, interval_text, long_table
from ..runs.loop import run_methods
from ..runs.plan import RunOptions, build_dataset, build_method, build_methods
from ..runs.store import RunStore
from ..tasks.protocol import Protocol

FOLDER = "analysis"
# Measured, so never twice the same; or told by the header.
LEFT_OUT = ["label", "split_images", "seconds_per_image", "peak_mib"]


@dataclass(frozen=True)
class Part:
    """One block of a backbone, or one head of it. layer: the block's place in execution order."""

    layer: int
    site: str
    head: int | None = None

    @property
    def name(self) -> str:
        return self.site if self.head is None else f"{self.site}-head{self.head}"


@dataclass(frozen=True)
class LayerAnalysis:
    """What is evaluated.

    method: Seg4Diff's name, which reads every part alone. parts: blocks or heads. compared: names of methods that are
    evaluated whole on the same images. timestep: ``t`` in 0..1000 instead of the method's own.
    """

    method: str
    parts: tuple[Part, ...]
    compared: tuple[str, ...] = ()
    timestep: float | None = None


def parts_of(backbone: str, sites: Sequence[Site], names: Sequence[str] | None, heads: bool) -> tuple[Part, ...]:
    """Blocks with attention on text, or their heads, in execution order. names: only these, None for all.

    Raises UserError for a name that is none of them.
    """
    reading = {site.name: site for site in sites if site.text_module is not None}
    for name in names or ():
        if name not in reading:
            raise UserError(f"{backbone} has no site '{name}' that reads text", f"see: segscale sites {backbone}")
    chosen = [site for site in reading.values() if names is None or site.name in names]
    if heads:
        return tuple(Part(site.layer, site.name, head) for site in chosen for head in range(site.heads))
    return tuple(Part(site.layer, site.name) for site in chosen)


def part_method(analysis: LayerAnalysis, part: Part, backbone: str) -> Method:
    """The method on ``part`` alone, with the rest of the backbone's preset."""
    choices = {} if analysis.timestep is None else {"timestep": analysis.timestep}
    name = f"{analysis.method}@{part.name}"
    return build_method(analysis.method, backbone, name=name, sites=(part.site,), head=part.head, **choices)


def evaluate_parts(
    analysis: LayerAnalysis, backbone: str, dataset: str, protocol: str, options: RunOptions
) -> pd.DataFrame:
    """mIoU in percent of every part, then of every method compared, on the same images; columns as of ``long_table``.

    layer, site, head: the part, missing for a method compared. noise: of the image that was read. Parts share one
    forward per image and prompt. Runs are stored below ``options.results / "analysis"`` and resumed.
    """
    compared = build_methods([analysis.method, *analysis.compared], backbone, protocol)[1:]
    methods = [part_method(analysis, part, backbone) for part in analysis.parts] + compared
    kept = replace(options, results=options.results / FOLDER)
    stores = run_methods(backbone, methods, dataset, protocol, kept)
    images = _common_images(stores, dataset, protocol, options)
    scored = (evaluate_store(store, options.results, images) for store in stores)
    rows = long_table(scored).set_index("identity", drop=False)
    table = rows.loc[[store.folder.name for store in stores]].reset_index(drop=True).drop(columns=LEFT_OUT)
    none = [None] * len(compared)
    table.insert(0, "layer", pd.array([*(part.layer for part in analysis.parts), *none], "Int64"))
    table.insert(1, "site", [*(part.site for part in analysis.parts), *none])
    table.insert(2, "head", pd.array([*(part.head for part in analysis.parts), *none], "Int64"))
    return table.assign(noise=[_noise(method.settings.timestep) for method in methods])


def ranked_parts(table: pd.DataFrame) -> pd.DataFrame:
    """Blocks or heads of ``evaluate_parts``, best first, the earlier first of equals."""
    parts: Any = table[table["layer"].notna()]
    return parts.sort_values("miou", ascending=False, kind="stable", ignore_index=True)


def part_text(row: Any) -> str:
    """The name of a part, as a sentence says it."""
    return str(row["site"]) if pd.isna(row["head"]) else f"head {row['head']} of {row['site']}"


def best_text(table: pd.DataFrame) -> str:
    """Names the best part, and says whether the second's interval overlaps."""
    ranked = ranked_parts(table)
    first: Any = ranked.iloc[0]
    kind = "block" if pd.isna(first["head"]) else "head"
    found = f"best {kind}: {part_text(first)}, mIoU {interval_text(first)}"
    if len(ranked) == 1:
        return found
    second: Any = ranked.iloc[1]
    apart = "does not overlap" if second["high"] < first["low"] else "overlaps"
    return f"{found}; its interval {apart} that of the second, {part_text(second)}, {interval_text(second)}"


def printable(table: pd.DataFrame) -> str:
    """One line per part and per method compared, after what they were measured on."""
    columns = ["layer", "site", "head"] if bool(table["head"].notna().any()) else ["layer", "site"]
    parts = table["layer"].notna()
    shown: Any = table[columns].astype(object)
    shown["site"] = shown["site"].where(parts, table["method"])
    shown = shown.assign(miou=table.apply(interval_text, axis=1), noise=table["noise"]).fillna("")
    first = table.iloc[0]
    method = first["method"].partition("@")[0]
    header = "{backbone} on {dataset} {split}, {images} images, protocol {protocol}".format(**first)
    titles = [*columns, "mIoU [95 %]", "noise"]
    lines = tabulate(shown.to_numpy().tolist(), titles, tablefmt="simple", disable_numparse=True)
    return f"{header}: {method} on every part alone\n{lines}"


def _common_images(stores: Sequence[RunStore], dataset: str, protocol: str, options: RunOptions) -> frozenset[str]:
    """Those asked for that every store has: a store may hold more from an earlier run, or less in a shared one."""
    rules: Protocol = build("protocol", protocol)
    asked = frozenset(build_dataset(dataset, options, rules).ids[: options.limit])
    return asked.intersection(*(store.done() for store in stores))


def _noise(timestep: Timestep) -> str:
    return f"entry {timestep.index} of {timestep.steps}" if timestep.t is None else f"timestep {timestep.t:g}"
