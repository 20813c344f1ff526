"""What perturbing one block's attention on text does to the denoiser's answer, beside what the block segments alone.

After Seg4Diff (arXiv 2509.18096), which shows pictures; the blur and the measures are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import permutation_test, rankdata
from torch import Tensor

from segscale.prompt import Prompt

from ...backbones.attention.perturbation import denoise_perturbed
from ...backbones.attention.sites import Site, text_sites
from ...backbones.backbone import Backbone
from ...backbones.inputs import PromptedImage
from ...backbones.latents.noise import image_generator, normal_draws
from ...backbones.latents.settings import CaptureSettings
from ...datasets.dataset import Sample
from ...methods.build import method_defaults
from ...methods.method import Method
from ..evaluation.metrics import Floats
from ..inference.batch import BatchLimit
from ..report.figures.analyses import AnalysisView
from ..report.tables import TableRow, table_rows
from ..runs.options import RunOptions
from ..runs.plan import plan_backbone
from ..tasks.task import Task
from .images import prompted_images, with_facts
from .layers import LayerAnalysis, evaluate_parts, part_method, parts_of
from .modalities import averages

VIEW = AnalysisView(
    "perturb",
    {
        "one block blurred": {
            "change_objects": "velocity on objects",
            "change_rest": "velocity elsewhere",
            "loss": "denoising loss",
        },
        "one block alone": {"miou": "mIoU"},
    },
    "change, or mIoU (%)",
    scale=1,
    digits=2,
    bounds=(-np.inf, np.inf),
)
LOST = "lost_f1"
GENERATED_VIEW = replace(VIEW, panels={**VIEW.panels, "pictures with one block blurred": {LOST: "F1 lost"}})
"""With pictures drawn, too."""
MEASURES = tuple(VIEW.panels["one block blurred"])
PERMUTATIONS = 10_000
BLOCKS = 8
"""That share a forward where nothing was chosen."""
NO_CORRELATION = (float("nan"), float("nan"))


METHOD_NAME = "seg4diff-described"
"""Whose image, noise level and prompt are used, and what reads blocks alone."""


def perturb(
    backbone_name: str,
    task: Task,
    options: RunOptions,
    width: float,
    timestep: float | None = None,
    fidelity: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Averages over images of every block, one row per block and measure, in percent.

    ``change_objects`` and ``change_rest`` are the norm of the denoiser's change over the norm of its answer, on pixels
    of prompted classes and on all others; an image without such pixels does not count. ``loss`` is what the denoising
    loss grows by. ``miou`` is the block alone, as of ``segscale layers``; ``rho`` is its rank correlation over blocks
    with a measure, ``rho_p`` the p-value.

    Args:
        backbone_name: What denoises.
        task: Says what is prompted.
        options: Of runs and measurements.
        width: Of the blur, as a share of the image's side.
        timestep: ``t`` in 1..1000 instead of the method's own.
        fidelity: More such rows, of pictures: layer, site, measure (``lost_f1``), mean, low, high, images.
    """
    planned = plan_backbone(backbone_name, options)
    backbone = planned.load()
    image_size = method_defaults(backbone_name).image_size
    parts = parts_of(backbone_name, backbone.sites(image_size), None, heads=False)
    analysis = LayerAnalysis(METHOD_NAME, parts, timestep=timestep)
    method = part_method(analysis, parts[0], backbone_name)
    rows = measure(backbone, task, method, width, options)
    table = pd.concat([_averages(rows, measure) for measure in MEASURES])
    alone = evaluate_parts(analysis, backbone_name, task, options)
    curve = alone[["layer", "site", "low", "high", "images"]].assign(measure="miou", mean=alone["miou"])
    table = pd.concat([part for part in (table, fidelity, curve) if part is not None], ignore_index=True).sort_values(
        "layer", kind="stable", ignore_index=True
    )
    facts = {
        "backbone": planned.identity.label,
        **task.identity.columns,
        "images": table.pop("images").tolist(),
        "width": width,
        "timestep": backbone.noise_level(method.settings).timestep,
        "seed": options.seed,
    }
    return with_facts(with_correlations(table), facts)


def _averages(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Averages over the images that have a measure, and how many those are.

    An image without pixels of prompted classes has no change on them, one without others none elsewhere.
    """
    having = rows.dropna(subset=[measure])
    table = averages(rows if having.empty else having, [measure], VIEW.bounds)
    return table.assign(images=having["image"].nunique())


def measure(backbone: Backbone, task: Task, method: Method, width: float, options: RunOptions) -> pd.DataFrame:
    """``MEASURES`` in percent, one row per image and block.

    Images that show no class are left out.

    Args:
        backbone: What denoises.
        task: Says what is prompted.
        method: Whose noised image and prompt are used.
        width: Of the blur.
        options: Limit and seed; ``batch`` blocks share a forward.

    Raises:
        UserError: Where no image shows a class.
    """
    sites = [*text_sites(backbone.sites(method.settings.image_size)).values()]
    rows: list[dict[str, str | int | float]] = []
    limit = BatchLimit(options.batch or BLOCKS, "block")

    def blur(id: str, image: PromptedImage, target: Tensor, objects: Tensor, part: Sequence[Site]) -> None:
        plain, *perturbed = denoise_perturbed(backbone, [None, *part], image, width)
        measured = [_measures(plain, output, target[0], objects) for output in perturbed]
        facts = [{"image": id, "layer": site.layer, "site": site.name} for site in part]
        rows.extend(fact | measures for fact, measures in zip(facts, measured, strict=True))

    for sample, group in prompted_images(backbone, task, options, method.prompt_rule):
        generator = image_generator(options.seed, task.dataset.name, sample.id)
        image, target = _noised(backbone, sample, group.prompt, method.settings, generator)
        label, size = task.merged_label(sample.label), (target.shape[-2], target.shape[-1])
        objects = _object_share(label, group.class_ids, size).to(target.device)
        limit.over(sites, partial(blur, sample.id, image, target, objects))
    return pd.DataFrame(rows)


def _noised(
    backbone: Backbone, sample: Sample, prompt: Prompt, settings: CaptureSettings, generator: torch.Generator
) -> tuple[PromptedImage, Tensor]:
    """The noised image that methods of these settings read, and what the denoiser should answer."""
    backbone.check_size(settings.image_size)
    clean = backbone.encode_images([sample.image], settings, [generator])
    level, draw = backbone.noise_level(settings), normal_draws(clean, [generator])
    return PromptedImage(level.mix(clean, draw), level, prompt), level.target(clean, draw)


def _object_share(label: NDArray[np.uint8], class_ids: Sequence[int], size: tuple[int, int]) -> Tensor:
    """How much of every latent pixel shows a prompted class, float32 ``(height, width)``."""
    shown = torch.from_numpy(np.isin(label, class_ids).astype(np.float32))
    return F.interpolate(shown[None, None], size=size, mode="area")[0, 0]


def _measures(plain: Tensor, perturbed: Tensor, target: Tensor, objects: Tensor) -> dict[str, float]:
    """``MEASURES`` of answers ``(channels, height, width)``, in percent."""
    losses = [float(F.mse_loss(output, target)) for output in (plain, perturbed)]
    changed, answered = ((part**2).sum(0) for part in (perturbed - plain, plain))

    def change(weight: Tensor) -> float:
        return 100 * float(((weight * changed).sum() / (weight * answered).sum()).sqrt())

    return {
        "change_objects": change(objects),
        "change_rest": change(1 - objects),
        "loss": 100 * (losses[1] / losses[0] - 1),
    }


def with_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Add Spearman's rho over blocks of every measure with the mIoU, and the p-value of a permutation test."""
    wide = table.pivot(index="layer", columns="measure", values="mean")
    measures = [str(name) for name in wide.columns if name != "miou"]
    found = {name: _rank_correlation(wide["miou"].to_numpy(), wide[name].to_numpy()) for name in measures}
    pairs = [found.get(str(name), NO_CORRELATION) for name in table["measure"]]
    return table.assign(rho=[rho for rho, _ in pairs], rho_p=[p_value for _, p_value in pairs])


def _rank_correlation(first: Floats, second: Floats) -> tuple[float, float]:
    """Rho and its two-sided p-value, exact where there are few blocks; NaN for fewer than three or even values."""
    if len(first) < 3 or not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return NO_CORRELATION

    ranks = rankdata(second)

    def rho(values: Floats) -> float:
        return float(np.corrcoef(rankdata(values), ranks)[0, 1])

    test = permutation_test(
        (first,), rho, permutation_type="pairings", n_resamples=PERMUTATIONS, rng=np.random.default_rng(0)
    )
    return float(test.statistic), float(test.pvalue)


def correlation_text(table: pd.DataFrame) -> str:
    """Does the block that segments best hurt most?"""
    return f"rank correlation over blocks of the mIoU alone with: {', '.join(_correlations(table).values())}"


def correlated_view(view: AnalysisView, table: pd.DataFrame) -> AnalysisView:
    """The view with rank correlations with the mIoU alone in the titles of its panels, a line each."""
    found = _correlations(table)

    def title(panel: str) -> str:
        lines = [f"rank correlation: {found[name]}" for name in view.panels[panel] if name in found]
        return "\n".join([panel, *lines])

    return replace(view, panels={title(panel): measures for panel, measures in view.panels.items()})


def _rho_text(row: TableRow) -> str:
    return "not defined" if np.isnan(row["rho"]) else f"{row['rho']:+.2f} (p {row['rho_p']:.3f})"


def _correlations(table: pd.DataFrame) -> dict[str, str]:
    """Of every measure but the mIoU itself: its label, rho and p-value."""
    rows = {str(row["measure"]): row for row in table_rows(table)}
    return {
        name: f"{label} {_rho_text(rows[name])}"
        for name, label in GENERATED_VIEW.labels.items()
        if name in rows and name != "miou"
    }
