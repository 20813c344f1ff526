"""Seg4Diff's layer analysis (arXiv 2509.18096): every block, or every head of every block, alone as a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

from ...backbones.attention.sites import Site, text_site, text_sites
from ...backbones.latents.settings import Timestep
from ...methods.build import build_method
from ...methods.method import Method
from ..report.markdown import format_miou
from ..report.tables import BEST_OF, TableRow, long_table, table_rows
from ..runs.options import RunOptions
from ..runs.plan import build_methods
from ..tasks.task import Task
from .variants import evaluate_variants

# Measured, so never twice the same; or told by the header.
LEFT_OUT = ["label", "split_images", "seconds_per_image", "peak_mib", "oracle_protocol", *BEST_OF]


@dataclass(frozen=True)
class Part:
    """One block of a backbone, or one head of it."""

    layer: int
    """The block's place in execution order."""
    site: str
    head: int | None = None

    @property
    def name(self) -> str:
        return self.site if self.head is None else f"{self.site}-head{self.head}"


@dataclass(frozen=True)
class LayerAnalysis:
    """What is evaluated."""

    method_name: str
    """Seg4Diff's, which reads every part alone."""
    parts: tuple[Part, ...]
    """Blocks or heads."""
    compared: tuple[str, ...] = ()
    """Names of methods that are evaluated whole on the same images."""
    timestep: float | None = None
    """``t`` in 1..1000 instead of the method's own."""


def parts_of(backbone_name: str, sites: Sequence[Site], names: Sequence[str] | None, heads: bool) -> tuple[Part, ...]:
    """Blocks with attention on text, or their heads, in execution order. names: only these, None for all.

    Raises UserError for a name that is none of them.
    """
    wanted = None if names is None else {text_site(sites, name, backbone_name).name for name in names}
    chosen = [site for name, site in text_sites(sites).items() if wanted is None or name in wanted]
    if heads:
        return tuple(Part(site.layer, site.name, head) for site in chosen for head in range(site.heads))
    return tuple(Part(site.layer, site.name) for site in chosen)


def part_method(analysis: LayerAnalysis, part: Part, backbone_name: str) -> Method:
    """The method on ``part`` alone, with the rest of the backbone's preset."""
    choices = {} if analysis.timestep is None else {"timestep": analysis.timestep}
    choices |= {"variant": f"@{part.name}", "grounding_sites": (part.site,), "head": part.head}
    return build_method(analysis.method_name, backbone_name, **choices)


def evaluate_parts(analysis: LayerAnalysis, backbone_name: str, task: Task, options: RunOptions) -> pd.DataFrame:
    """Evaluate every part, then every method compared, on the same images; columns as of ``long_table``.

    Parts share one forward per image and prompt. Runs are stored below ``options.results / "analysis"`` and resumed.

    Returns:
        mIoU in percent. ``layer``, ``site``, ``head`` are the part, missing for a method compared; ``noise`` is that
        of the image that was read.
    """
    compared = build_methods([analysis.method_name, *analysis.compared], backbone_name, task.protocol)[1:]
    methods = [part_method(analysis, part, backbone_name) for part in analysis.parts] + compared
    runs = evaluate_variants(backbone_name, methods, task, options)
    rows = long_table(runs).set_index("identity", drop=False)
    table = rows.loc[[run.run.run_id for run in runs]].reset_index(drop=True).drop(columns=LEFT_OUT)
    none = [None] * len(compared)
    table.insert(0, "layer", pd.array([*(part.layer for part in analysis.parts), *none], "Int64"))
    table.insert(1, "site", [*(part.site for part in analysis.parts), *none])
    table.insert(2, "head", pd.array([*(part.head for part in analysis.parts), *none], "Int64"))
    return table.assign(noise=[_noise(method.settings.timestep) for method in methods])


def ranked_parts(table: pd.DataFrame) -> pd.DataFrame:
    """Blocks or heads of ``evaluate_parts``, best first, the earlier first of equals."""
    parts = table.dropna(subset=["layer"])
    return parts.sort_values("miou", ascending=False, kind="stable", ignore_index=True)


def part_text(row: TableRow) -> str:
    """The name of a part, as a sentence says it."""
    return str(row["site"]) if pd.isna(row["head"]) else f"head {row['head']} of {row['site']}"


def best_text(table: pd.DataFrame) -> str:
    """Names the best part, and says whether the second's interval overlaps."""
    ranked = table_rows(ranked_parts(table))
    first = ranked[0]
    kind = "block" if pd.isna(first["head"]) else "head"
    best = f"best {kind}: {part_text(first)}, mIoU {format_miou(first)}"
    if len(ranked) == 1:
        return best
    second = ranked[1]
    runner_up = f"{part_text(second)}, {format_miou(second)}"
    if pd.isna(first["low"]) or pd.isna(second["low"]):
        return f"{best}; second: {runner_up}"
    apart = "does not overlap" if second["high"] < first["low"] else "overlaps"
    return f"{best}; its interval {apart} that of the second, {runner_up}"


def printable(table: pd.DataFrame) -> str:
    """One line per part and per method compared, after what they were measured on."""
    columns = ["layer", "site", "head"] if bool(table["head"].notna().any()) else ["layer", "site"]
    parts = table["layer"].notna()
    shown: Any = table[columns].astype(object)
    shown["site"] = shown["site"].where(parts, table["method"])
    shown = shown.assign(miou=[format_miou(row) for row in table_rows(table)], noise=table["noise"]).fillna("")
    first = table.iloc[0]
    method = first["method"].partition("@")[0]
    header = "{backbone} on {dataset} {split}, {images} images, protocol {protocol}".format(**first)
    titles = [*columns, "mIoU [95 %]", "noise"]
    lines = tabulate(shown.to_numpy().tolist(), titles, tablefmt="simple", disable_numparse=True)
    return f"{header}: {method} on every part alone\n{lines}"


def _noise(timestep: Timestep) -> str:
    return f"entry {timestep.index} of {timestep.steps}" if timestep.t is None else f"timestep {timestep.t:g}"
