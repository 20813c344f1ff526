"""What each quirk of the published code does to the number: mended alone, all others as published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pandas as pd
from tabulate import tabulate

from segscale.registry import build, load_config

from ...methods.method import Method
from ..evaluation.metrics import Difference, ImageAreas, difference
from ..runs.loop import run_methods
from ..runs.plan import RunOptions, preset
from ..runs.store import RunStore, chosen_areas
from ..tasks.protocol import Protocol

DESCRIBED = "-described"
ALL = "all of them"
# Under which protocol a method's quirks are measured, and the method that a protocol's quirks are measured with.
METHODS = MappingProxyType({"goca": "standard", "seg4diff": "seg4diff", "seg4diff-masks": "seg4diff-unsupervised"})
PROTOCOLS = MappingProxyType({"goca": "goca", "seg4diff-unsupervised": "seg4diff-masks"})


@dataclass(frozen=True)
class RuleQuirk:
    """A rule of a published protocol, what takes its place, and what it is."""

    field: str
    mended: Any
    what: str


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
            RuleQuirk("cropped", False, "where the image is larger than evaluated, its top left corner is compared"),
        ),
    }
)


@dataclass(frozen=True)
class Cell:
    """A method under rules, as published or with one quirk mended; switch None for the former."""

    method: Method
    rules: Protocol
    switch: str | None
    what: str


def method_cells(name: str, backbone: str) -> Iterator[Cell]:
    """The published method, each quirk of it mended alone, and the described method."""
    rules: Protocol = build("protocol", METHODS[name])
    published, described = (_arguments(one, backbone) for one in (name, f"{name}{DESCRIBED}"))
    method: Method = build("method", name, **preset(name, backbone))
    yield Cell(method, rules, None, "")
    for switch, what in type(method).quirks.items():
        if published.get(switch) == described.get(switch):
            continue
        mended = {key: value for key, value in published.items() if key != switch}
        mended |= {switch: described[switch]} if switch in described else {}
        built = type(method)(**mended | {"name": f"{name}+{switch}"})
        yield Cell(built, rules, switch, what)
    yield Cell(build("method", f"{name}{DESCRIBED}", **preset(f"{name}{DESCRIBED}", backbone)), rules, ALL, "")


def protocol_cells(name: str, backbone: str) -> Iterator[Cell]:
    """The published protocol, each of its quirks mended alone, and all of them, with its own method."""
    rules: Protocol = build("protocol", name)
    method: Method = build("method", PROTOCOLS[name], **preset(PROTOCOLS[name], backbone))
    yield Cell(method, rules, None, "")
    for quirk in PROTOCOL_QUIRKS[name]:
        mended = replace(rules, name=f"{name}+{quirk.field}", **{quirk.field: quirk.mended})
        yield Cell(method, mended, quirk.field, quirk.what)
    everything = {quirk.field: quirk.mended for quirk in PROTOCOL_QUIRKS[name]}
    yield Cell(method, replace(rules, name=f"{name}{DESCRIBED}", **everything), ALL, "")


def _arguments(method: str, backbone: str) -> dict[str, Any]:
    config = {key: value for key, value in load_config("method", method).items() if key != "type"}
    return {"name": method} | config | preset(method, backbone)


def effects(backbones: Sequence[str], dataset: str, options: RunOptions) -> pd.DataFrame:
    """One row per quirk and backbone: mIoU as published and what mending it adds, in points, with its interval."""
    rows: list[dict[str, Any]] = []
    for backbone in backbones:
        rows += _zero_rows(backbone, dataset, options)
        for kind, names, cells_of in (("method", METHODS, method_cells), ("protocol", PROTOCOLS, protocol_cells)):
            for name in names:
                rows += _measured(kind, name, backbone, [*cells_of(name, backbone)], dataset, options)
    return pd.DataFrame(rows)


def _zero_rows(backbone: str, dataset: str, options: RunOptions) -> list[dict[str, Any]]:
    """The zero rows of a dropped T5, where the backbone has them."""
    if load_config("backbone", backbone).get("with_t5", True):
        return []
    rules: Protocol = build("protocol", METHODS["seg4diff"])
    method: Method = build("method", "seg4diff", **preset("seg4diff", backbone))
    without = replace(options, backbone_arguments={"zero_rows": False})
    scored = [_areas(run_methods(backbone, [method], dataset, rules, one)[0], rules) for one in (options, without)]
    effect = difference(scored[1], scored[0], (rules.averaging, rules.averaging))
    cell = Cell(method, rules, "zero_rows", "zero rows of the dropped T5 are keys of every softmax")
    return [_row("backbone", "seg4diff", cell, backbone, effect, len(scored[0].label))]


def _measured(
    kind: str, name: str, backbone: str, cells: Sequence[Cell], dataset: str, options: RunOptions
) -> list[dict[str, Any]]:
    """Cells under the same rules run together, so that they share their forwards."""
    scored: dict[int, ImageAreas] = {}
    for rules in dict.fromkeys(cell.rules.name for cell in cells):
        group = [number for number, cell in enumerate(cells) if cell.rules.name == rules]
        methods = [cells[number].method for number in group]
        stores = run_methods(backbone, methods, dataset, cells[group[0]].rules, options)
        scored |= {n: _areas(store, cells[n].rules) for n, store in zip(group, stores, strict=True)}
    published = next(number for number, cell in enumerate(cells) if cell.switch is None)
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(cells):
        if cell.switch is None:
            continue
        averagings = (cell.rules.averaging, cells[published].rules.averaging)
        effect = difference(scored[number], scored[published], averagings)
        rows.append(_row(kind, name, cell, backbone, effect, len(scored[number].label)))
    return rows


def _row(kind: str, name: str, cell: Cell, backbone: str, effect: Difference, images: int) -> dict[str, Any]:
    points = {"effect": effect.miou, "low": effect.low, "high": effect.high}
    return {
        "kind": kind,
        "name": name,
        "switch": cell.switch,
        "what": cell.what,
        "backbone": backbone,
        **{key: 100 * value for key, value in points.items()},
        "images": images,
    }


def _areas(store: RunStore, rules: Protocol) -> ImageAreas:
    run, frame = store.read(), store.load()
    stored = run["plan"]["protocol"]["thresholds"]
    threshold = stored[0] if len(stored) == 1 else rules.threshold
    return chosen_areas(run, frame, threshold, rules.averaging)[1]


def table(rows: pd.DataFrame) -> str:
    """Markdown: one row per quirk, one column per backbone, effect in points with its 95 % interval."""
    shown = rows.assign(cell=rows.apply(_cell, axis=1))
    index = ["kind", "name", "switch", "what"]
    wide = shown.pivot(index=index, columns="backbone", values="cell").reindex(columns=shown["backbone"].unique())
    order = list(dict.fromkeys(shown[index].itertuples(index=False, name=None)))
    wide = wide.reindex(pd.MultiIndex.from_tuples(order, names=index)).fillna("-").reset_index()
    return tabulate(wide, headers="keys", tablefmt="github", showindex=False, disable_numparse=True)


def _cell(row: Any) -> str:
    return f"{row['effect']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
