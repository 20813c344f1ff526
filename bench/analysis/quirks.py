"""What each quirk of the published code does to the number: mended alone, all others as published."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import pandas as pd

from segscale.registry import build, load_config

from ...methods.build import build_method
from ...methods.method import Method
from ..evaluation.intervals import Estimate, SampledCounts, estimate_difference
from ..report.markdown import format_estimate, markdown_table
from ..report.tables import TableRow, interval_columns, table_rows
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..runs.plan import build_task
from ..runs.store import RunStore
from ..tasks.protocol import BEST, Protocol

DESCRIBED = "-described"
ALL = "all of them"
PROTOCOL_OF_METHOD = MappingProxyType(
    {"goca": "standard", "seg4diff": "seg4diff", "seg4diff-masks": "seg4diff-unsupervised"}
)
"""Under which protocol the quirks of a method are measured."""
METHOD_OF_PROTOCOL = MappingProxyType({"goca": "goca", "seg4diff-unsupervised": "seg4diff-masks"})
"""With which method the quirks of a protocol are measured."""


@dataclass(frozen=True)
class RuleQuirk:
    """A rule of a published protocol, and what takes its place."""

    field: str
    mended: object
    what: str
    """The quirk in words."""


PROTOCOL_QUIRKS: MappingProxyType[str, tuple[RuleQuirk, ...]] = MappingProxyType(
    {
        "goca": (
            RuleQuirk("threshold", 0.0, "the best threshold is chosen on the images evaluated"),
            RuleQuirk("absent", "excluded", "classes that are not in the image compete with score 0"),
            RuleQuirk("void", "ignored", "pixels without a label count as background"),
            RuleQuirk("averaging", "all", "classes that never occur count as 0"),
        ),
        "seg4diff-unsupervised": (
            RuleQuirk("matching", "image", "clusters are matched to classes in every pixel row by itself"),
            RuleQuirk(
                "crop_before_resize", False, "where the image is larger than evaluated, its top left corner is compared"
            ),
        ),
    }
)


@dataclass(frozen=True)
class Cell:
    """A method under a protocol, as published or with one quirk mended."""

    method: Method
    protocol: Protocol
    switch: str | None
    """The field that is mended, None for neither."""
    what: str


@dataclass(frozen=True)
class QuirkOwner:
    """Whose quirks are measured."""

    kind: Literal["method", "protocol", "backbone"]
    name: str


def method_cells(name: str, backbone_name: str) -> Iterator[Cell]:
    """The published method, each quirk of it mended alone, and the described method."""
    protocol = build("protocol", PROTOCOL_OF_METHOD[name])
    published, described = (build_method(each, backbone_name) for each in (name, f"{name}{DESCRIBED}"))
    yield Cell(published, protocol, None, "")
    for switch, what in published.quirks.items():
        mended = getattr(described, switch)
        if mended != getattr(published, switch):
            method = replace(published, variant=f"+{switch}", **{switch: mended})
            yield Cell(method, protocol, switch, what)
    yield Cell(described, protocol, ALL, "")


def protocol_cells(name: str, backbone_name: str) -> Iterator[Cell]:
    """The published protocol, each of its quirks mended alone, and all of them, with its own method."""
    protocol = build("protocol", name)
    method = build_method(METHOD_OF_PROTOCOL[name], backbone_name)
    yield Cell(method, protocol, None, "")
    for quirk in PROTOCOL_QUIRKS[name]:
        mended = replace(protocol, variant=f"+{quirk.field}", **{quirk.field: quirk.mended})
        yield Cell(method, mended, quirk.field, quirk.what)
    everything = {quirk.field: quirk.mended for quirk in PROTOCOL_QUIRKS[name]}
    yield Cell(method, replace(protocol, variant=DESCRIBED, **everything), ALL, "")


def effects(backbone_names: Sequence[str], dataset_name: str, options: RunOptions) -> pd.DataFrame:
    """One row per quirk and backbone: mIoU as published and what mending it adds, in points, with its interval.

    Raises:
        UserError: For a dataset of which one of the protocols says nothing, before anything runs.
    """
    for name in {*PROTOCOL_OF_METHOD.values(), *METHOD_OF_PROTOCOL}:
        build_task(dataset_name, build("protocol", name), options)
    rows: list[dict[str, object]] = []
    for backbone_name in backbone_names:
        rows += _zero_rows(backbone_name, dataset_name, options)
        for name in PROTOCOL_OF_METHOD:
            cells = [*method_cells(name, backbone_name)]
            rows += _measured(QuirkOwner("method", name), backbone_name, cells, dataset_name, options)
        for name in METHOD_OF_PROTOCOL:
            cells = [*protocol_cells(name, backbone_name)]
            rows += _measured(QuirkOwner("protocol", name), backbone_name, cells, dataset_name, options)
    return pd.DataFrame(rows)


def _zero_rows(backbone_name: str, dataset_name: str, options: RunOptions) -> list[dict[str, object]]:
    """The zero rows of a dropped T5, where the backbone has them."""
    if load_config("backbone", backbone_name).get("with_t5", True):
        return []
    task = build_task(dataset_name, build("protocol", PROTOCOL_OF_METHOD["seg4diff"]), options)
    method = build_method("seg4diff", backbone_name)
    without = replace(options, backbone_arguments={"zero_rows": False})
    stores = [run_methods(backbone_name, [method], task, each)[0] for each in (options, without)]
    published, mended = _scored(stores, frozenset(task.dataset.ids[: options.limit]))
    cell = Cell(method, task.protocol, "zero_rows", "zero rows of the dropped T5 are keys of every softmax")
    return [
        _row(QuirkOwner("backbone", "seg4diff"), cell, backbone_name, estimate_difference(mended, published), mended)
    ]


def _measured(
    owner: QuirkOwner, backbone_name: str, cells: Sequence[Cell], dataset_name: str, options: RunOptions
) -> list[dict[str, object]]:
    """Cells under the same protocol run together, so that they share their forwards."""
    stores: dict[int, RunStore] = {}
    asked: frozenset[str] = frozenset()
    for variant in dict.fromkeys(cell.protocol.variant for cell in cells):
        group = [number for number, cell in enumerate(cells) if cell.protocol.variant == variant]
        task = build_task(dataset_name, cells[group[0]].protocol, options)
        stores |= zip(
            group, run_methods(backbone_name, [cells[number].method for number in group], task, options), strict=True
        )
        asked = frozenset(task.dataset.ids[: options.limit])
    scored = _scored([stores[number] for number in range(len(cells))], asked)
    published = next(number for number, cell in enumerate(cells) if cell.switch is None)
    return [
        _row(owner, cell, backbone_name, estimate_difference(scored[number], scored[published]), scored[number])
        for number, cell in enumerate(cells)
        if cell.switch is not None
    ]


def _row(
    owner: QuirkOwner, cell: Cell, backbone_name: str, effect: Estimate, scored: SampledCounts
) -> dict[str, object]:
    return {
        "kind": owner.kind,
        "name": owner.name,
        "switch": cell.switch,
        "what": cell.what,
        "backbone": backbone_name,
        "effect": 100 * effect.value,
        **interval_columns(effect),
        "images": len(scored.counts.label_area),
    }


def _scored(stores: Sequence[RunStore], asked: frozenset[str]) -> list[SampledCounts]:
    """Counts on the images that are asked for and that all stores have."""
    images = asked.intersection(*(store.done() for store in stores))
    return [_sample(store, images) for store in stores]


def _sample(store: RunStore, images: Collection[str]) -> SampledCounts:
    """Counts at the threshold of the protocol, or the best one where that is its rule."""
    run = store.read()
    counts, rules = store.load(run).only(images), run.table_rules
    threshold = BEST if rules.threshold == BEST else float(rules.threshold)
    return counts.sample(threshold, rules.averaging, run.split_images)


def effects_table(rows: pd.DataFrame) -> str:
    """Markdown: one row per quirk, one column per backbone, effect in points with its 95 % interval."""
    shown = rows.assign(cell=[_cell(row) for row in table_rows(rows)])
    index = ["kind", "name", "switch", "what"]
    wide = shown.pivot(index=index, columns="backbone", values="cell").reindex(columns=shown["backbone"].unique())
    order = list(dict.fromkeys(shown[index].itertuples(index=False, name=None)))
    wide = wide.reindex(pd.MultiIndex.from_tuples(order, names=index)).fillna("-").reset_index()
    return markdown_table(wide)


def _cell(row: TableRow) -> str:
    return format_estimate(row["effect"], row["low"], row["high"], "+.1f")
