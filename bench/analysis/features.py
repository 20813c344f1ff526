"""Principal components of image tokens, block by block (after Seg4Diff, arXiv 2509.18096).

The paper shows pictures of them. Beside pictures, here are numbers: how much of the first components' variance follows
from a token's position, and how much from its class, as adjusted R^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segscale.errors import UserError

from ...backbones.attention.features import FeatureKind, TokenFeatures, observe_features
from ...backbones.attention.sites import Grid
from ...backbones.backbone import Backbone
from ...backbones.inputs import PromptedImage
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...datasets.dataset import Sample
from ...datasets.labels import IGNORE_LABEL
from ...methods.build import method_defaults
from ..inference.score import image_noise
from ..report.figures.analyses import AnalysisView
from ..runs.options import RunOptions
from ..runs.plan import plan_backbone
from ..tasks.task import Task
from .images import prompted_images, with_facts
from .modalities import averages

KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)
COMPONENTS = (3, 10)
FACTORS = ("position", "class")
VIEW = AnalysisView(
    "features",
    {
        f"{factor}, {count} components": {f"{kind}_{factor}_{count}": kind for kind in KINDS}
        for count in COMPONENTS
        for factor in FACTORS
    },
    "adjusted R² (%)",
    scale=100,
    digits=1,
    bounds=(-np.inf, 1.0),
)


@dataclass(frozen=True)
class FeaturePictures:
    """The first three components of one image's tokens as colours."""

    image: str
    """Its id."""
    pixels: NDArray[np.uint8]
    """RGB ``(size, size, 3)``, as the denoiser sees it."""
    maps: dict[tuple[str, str], NDArray[np.float32]]
    """By site and kind: ``(height, width, 3)`` in [0, 1]."""


def features_on(
    backbone_name: str, task: Task, options: RunOptions, timestep: float | None = None
) -> tuple[pd.DataFrame, FeaturePictures]:
    """Averages of R^2 over images, one row per block and measure, and the pictures of the first image.

    Components are those of each image by itself. Images whose grid shows a single class, or none, are left out.
    """
    planned = plan_backbone(backbone_name, options)
    backbone = planned.load()
    defaults = method_defaults(backbone_name)
    settings = CaptureSettings(defaults.image_size, Timestep(t=defaults.timestep if timestep is None else timestep))
    layers = {site.name: site.layer for site in backbone.sites(settings.image_size)}
    grids = {site.name: site.grid for site in backbone.sites(settings.image_size)}
    rows: list[dict[str, str | int | float]] = []
    pictures: FeaturePictures | None = None
    for sample, features in _observed(backbone, task, settings, options):
        label = task.merged_label(sample.label)
        labels = {grid: grid_labels(label, grid) for grid in set(grids.values())}
        if any(len(np.unique(each[each != IGNORE_LABEL])) < 2 for each in labels.values()):
            continue
        for site, tokens in features.items():
            measures = explained(tokens, grids[site], labels[grids[site]])
            rows.append({"image": sample.id, "layer": layers[site], "site": site, **measures})
        pictures = pictures or _pictures(sample, features, grids, settings.image_size)
    if pictures is None:
        raise UserError(f"no image of {task.dataset.name} shows two classes", "take more with --limit")
    table = averages(pd.DataFrame(rows), [*VIEW.labels], VIEW.bounds)
    facts = {
        "backbone": planned.identity.label,
        **task.identity.columns,
        "images": len({row["image"] for row in rows}),
        "timestep": settings.timestep.t,
        "seed": options.seed,
    }
    return with_facts(table, facts), pictures


def _observed(
    backbone: Backbone, task: Task, settings: CaptureSettings, options: RunOptions
) -> Iterator[tuple[Sample, dict[str, TokenFeatures]]]:
    """Every image that shows a class, under the protocol's own prompt."""
    noise = image_noise(backbone, task, options.seed)
    for sample, group in prompted_images(backbone, task, options):
        image = PromptedImage(*noise([sample], settings)[0], group.prompt)
        yield sample, observe_features(backbone, image, settings.image_size)


def explained(tokens: TokenFeatures, grid: Grid, labels: NDArray[np.uint8]) -> dict[str, float]:
    """Adjusted R^2 of every kind, factor and number of components; ``labels`` are of the grid's pixels, flat."""
    measures: dict[str, float] = {}
    known = torch.from_numpy(labels != IGNORE_LABEL)
    position = design_basis(position_design(grid))
    classes = design_basis(one_hot(torch.from_numpy(labels.astype(np.int64))[known]))
    for kind in KINDS:
        components = principal_components(getattr(tokens, kind).cpu(), max(COMPONENTS))
        for count in COMPONENTS:
            first = components[:, :count]
            measures[f"{kind}_position_{count}"] = adjusted_r2(first, position)
            measures[f"{kind}_class_{count}"] = adjusted_r2(first[known], classes)
    return measures


def principal_components(tokens: Tensor, count: int) -> Tensor:
    """The first components' scores of tokens ``(pixels, channels)``: ``(pixels, count)``, strongest first.

    The sign of each is that of its largest loading, so that equal tokens give equal pictures.
    """
    centred = tokens.double() - tokens.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    leading = vectors[:, -count:].flip(1)
    largest = leading.gather(0, leading.abs().argmax(0, keepdim=True))
    return centred @ (leading * largest.sign())


def design_basis(design: Tensor) -> Tensor:
    """An orthonormal basis of what a linear model of this design can say beside a constant, ``(tokens, rank)``."""
    basis, scales, _ = torch.linalg.svd(design.double() - design.double().mean(0), full_matrices=False)
    return basis[:, scales > 1e-9 * scales.max().clamp(min=1e-30)]


def adjusted_r2(values: Tensor, basis: Tensor) -> float:
    """The share of the variance of all columns of ``values`` that a linear model explains, less what chance would.

    1 - (1 - R^2) (n - 1) / (n - p - 1), with n tokens and p the rank of the model's design, whose basis this is.
    """
    centred = values - values.mean(0)
    tokens, rank = len(values), basis.shape[1]
    if tokens - rank - 1 <= 0 or not bool(centred.any()):
        return float("nan")
    share = float(((basis.T @ centred) ** 2).sum() / (centred**2).sum())
    return 1 - (1 - share) * (tokens - 1) / (tokens - rank - 1)


def position_design(grid: Grid) -> Tensor:
    """Indicators of row and of column, ``(pixels, height + width)``: any function of the row plus any of the column."""
    rows, columns = torch.meshgrid(torch.arange(grid.height), torch.arange(grid.width), indexing="ij")
    return torch.cat([one_hot(rows.flatten()), one_hot(columns.flatten())], dim=1)


def one_hot(labels: Tensor) -> Tensor:
    """Indicators of the values that occur, float64."""
    return (labels[:, None] == labels.unique()).double()


def grid_labels(label: NDArray[np.uint8], grid: Grid) -> NDArray[np.uint8]:
    """The label that covers most of every pixel of the grid, flat; the lower one of equals."""
    pixels = torch.from_numpy(label.astype(np.int64))
    present = pixels.unique()
    shown = (pixels == present[:, None, None]).float()
    areas = F.interpolate(shown[None], size=(grid.height, grid.width), mode="area")
    return present[areas[0].argmax(0)].flatten().numpy().astype(np.uint8)


def _pictures(sample: Sample, features: dict[str, TokenFeatures], grids: dict[str, Grid], size: int) -> FeaturePictures:
    maps: dict[tuple[str, str], NDArray[np.float32]] = {}
    for site, tokens in features.items():
        for kind in KINDS:
            scores = principal_components(getattr(tokens, kind).cpu(), 3)
            low, high = scores.amin(0), scores.amax(0)
            stretched = (scores - low) / (high - low).clamp(min=1e-30)
            maps[site, kind] = stretched.unflatten(0, (grids[site].height, grids[site].width)).float().numpy()
    return FeaturePictures(sample.id, np.asarray(sample.image.convert("RGB").resize((size, size))), maps)
