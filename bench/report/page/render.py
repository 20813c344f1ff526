"""Makes the page: one HTML file that needs no network, see ``templates/``."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import segscale
from segscale.files import explained_writes, replaced

from ..evaluated import Evaluation
from ..figures.cost import cost_figure
from ..figures.points import by_task, points
from ..figures.style import drawn, styles
from ..tables import long_table, notes
from .data import PageRuns, page_runs, provenance
from .gallery import DataUri, Gallery, data_uri, page_gallery
from .groups import RunGroup, run_groups
from .leaderboard import Leaderboard, page_leaderboard

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = (
    "elements.js",
    "leaderboard.js",
    "drawing.js",
    "scaling.js",
    "thresholds.js",
    "gallery.js",
    "details.js",
    "page.js",
)
"""In the order in which they stand on the page, all in one function."""


@dataclass(frozen=True)
class Page:
    """Everything that the page shows."""

    leaderboard: Leaderboard
    notes: tuple[str, ...]
    runs: PageRuns
    groups: tuple[RunGroup, ...]
    gallery: Gallery
    costs: Mapping[str, DataUri]
    """By the name of a task, mIoU against time as an SVG image."""
    provenance: Mapping[str, Mapping[str, Any]]
    """By run id."""


def write_page(evaluation: Evaluation, path: Path) -> Path:
    """Write the page of evaluated runs; returns its path."""
    text = render(collect(evaluation))
    with explained_writes(path.parent, "--output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(text)
    return path


def collect(evaluation: Evaluation) -> Page:
    """What the page shows of evaluated runs."""
    table = long_table(evaluation.runs)
    runs = page_runs(evaluation.runs, table)
    by_id = {run.run.run_id: run for run in evaluation.runs}
    return Page(
        leaderboard=page_leaderboard(table),
        notes=tuple(notes(table)),
        runs=runs,
        groups=tuple(run_groups(runs, evaluation.runs)),
        costs=_costs(table),
        gallery=page_gallery(runs, {id: run.folder for id, run in by_id.items()}),
        provenance={run.id: provenance(by_id[run.id]) for run in runs.runs},
    )


def _costs(table: pd.DataFrame) -> dict[str, DataUri]:
    looks, costs = styles(table["method"]), dict[str, DataUri]()
    for task, runs in by_task(points(table)).items():
        if (figure := cost_figure(runs, looks, task)) is not None:
            costs[task] = data_uri("image/svg+xml", drawn(figure, "svg"))
    return costs


def render(page: Page) -> str:
    """The HTML; the same page gives the same text."""
    style = (TEMPLATES / "page.css").read_text("utf-8")
    script = "\n".join(["(() => {", '"use strict";', *map(_script, SCRIPTS), "})();"])
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        page=page,
        version=segscale.__version__,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        data=_embedded(
            {**asdict(page.runs), "groups": page.groups, "gallery": page.gallery, "provenance": page.provenance}
        ),
    )


def _script(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _embedded(data: Mapping[str, object]) -> Markup:
    """JSON that no text in it can end: within a script element only ``<`` begins anything."""
    text = json.dumps(data, default=asdict, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _hash(text: str) -> str:
    """As a content security policy names the one text that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
