"""Analyses of joint attention over a dataset: measures of every block, averaged over images (arXiv 2509.18096)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from tabulate import tabulate

from ...backbones.attention.modalities import observe_modalities
from ...backbones.backbone import Backbone
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...methods.build import method_defaults
from ..evaluation.intervals import estimate_mean
from ..inference.score import image_noise
from ..report.figures.analyses import AnalysisView
from ..report.markdown import format_estimate
from ..runs.options import RunOptions
from ..runs.plan import plan_backbone
from ..tasks.task import Task
from .images import prompted_images, with_facts

SITE = ["layer", "site"]


SHARES = AnalysisView(
    "modalities",
    {
        "image queries": {"i2i": "I2I", "i2t": "I2T", "i2t_words": "I2T words", "i2t_special": "I2T special"},
        "text queries": {"t2i": "T2I", "t2t": "T2T"},
    },
    "share of attention (%)",
    scale=100,
    digits=1,
    bounds=(0.0, 1.0),
)
VALUES = AnalysisView(
    "values",
    {"value norms": {"image_value_norm": "image", "text_value_norm": "text"}},
    "norm of a head's value",
    scale=1,
    digits=2,
    bounds=(0.0, np.inf),
)
ANALYSES = {view.name: view for view in (SHARES, VALUES)}


def averages_on(
    analysis: AnalysisView, backbone_name: str, task: Task, options: RunOptions, timestep: float | None = None
) -> pd.DataFrame:
    """Averages of ``analysis`` at every joint block, with what they were measured on; one row per block and measure.

    Images without any class are left out.

    Args:
        analysis: Which measures.
        backbone_name: Of a backbone with joint attention.
        task: Says what is prompted.
        options: Limit, seed, weights.
        timestep: ``t`` in 1..1000 instead of the backbone's default.
    """
    planned = plan_backbone(backbone_name, options)
    defaults = method_defaults(backbone_name)
    t = defaults.timestep if timestep is None else timestep
    settings = CaptureSettings(defaults.image_size, Timestep(t=t))
    rows = measure(planned.load(), task, settings, options)
    facts = {
        "backbone": backbone_name,
        "weights": planned.identity.weights,
        "dtype": options.load.dtype,
        **task.identity.columns,
        "images": rows["image"].nunique(),
        "image_size": settings.image_size,
        "timestep": t,
        "seed": options.seed,
    }
    return with_facts(averages(rows, list(analysis.labels), analysis.bounds), facts)


def measure(backbone: Backbone, task: Task, settings: CaptureSettings, options: RunOptions) -> pd.DataFrame:
    """All fields of ``Modalities``, one row per image and joint block; one forward per image.

    Raises:
        UserError: Where no image shows a class.
    """
    layers = {site.name: site.layer for site in backbone.sites(settings.image_size)}
    noise = image_noise(backbone, task, options.seed)
    rows: list[dict[str, str | int | float]] = []
    for sample, group in prompted_images(backbone, task, options):
        blocks = observe_modalities(backbone, *noise([sample], settings)[0], group.prompt, settings.image_size)
        rows += [
            {"image": sample.id, "layer": layers[site], "site": site, **asdict(block)} for site, block in blocks.items()
        ]
    return pd.DataFrame(rows)


def averages(rows: pd.DataFrame, fields: Sequence[str], bounds: tuple[float, float]) -> pd.DataFrame:
    """Mean over images and its 95 % interval within ``bounds``, per block and measure, blocks in execution order.

    The interval of a single image is NaN. rows: as of ``measure``. Returns columns layer, site, measure, mean, low,
    high. Independent of the images' order.
    """
    wide = rows.pivot(index="image", columns=SITE, values=list(fields)).sort_index()
    estimates = [estimate_mean(column, bounds) for column in wide.to_numpy(np.float64).T]
    low, high = np.transpose([estimate.bounds for estimate in estimates])
    keys = pd.DataFrame(list(wide.columns), columns=["measure", *SITE])
    table = keys[[*SITE, "measure"]].assign(mean=[estimate.value for estimate in estimates], low=low, high=high)
    return table.sort_values("layer", kind="stable", ignore_index=True)


def printable(table: pd.DataFrame, analysis: AnalysisView) -> str:
    """One line per block, mean and interval per measure."""
    text = [
        format_estimate(*(analysis.scale * number for number in row), spec=f".{analysis.digits}f")
        for row in table[["mean", "low", "high"]].to_numpy()
    ]
    wide = table.assign(text=text).pivot(index=SITE, columns="measure", values="text")
    lines = wide[list(analysis.labels)].reset_index()
    titles = [*SITE, *_titles(analysis)]
    header = "{backbone} on {dataset} {split}, {images} images, timestep {timestep:g}".format(**table.iloc[0])
    return f"{header}: {analysis.axis}\n{tabulate(lines, titles, tablefmt='simple', showindex=False)}"


def _titles(analysis: AnalysisView) -> list[str]:
    """Labels of the measures; below them the panel's title where panels share labels."""
    labels = [*analysis.labels.values()]
    if len({*labels}) == len(labels):
        return labels
    return [f"{label}\n{panel}" for panel, measures in analysis.panels.items() for label in measures.values()]
