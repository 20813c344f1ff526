"""Commands about generators that are taught to draw masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runs.options import RunOptions
from . import options
from .command import Group, command
from .parameters import NATURAL, POSITIVE, Names
from .steps import print_written, quiet_libraries

if TYPE_CHECKING:
    import pandas as pd


@command(examples=["segscale latents pocket --limit 50", "segscale latents /models/sd15 --dataset voc --size 512"])
@click.argument("vae_source", metavar="VAE")
@options.name("dataset", "pocket")
@options.split
@options.data_root
@options.limit
@options.results
@click.option("--seed", type=NATURAL, default=0, help="of the noise")
@options.packed("run_options", RunOptions)
@click.option("--size", type=POSITIVE, default=64, help="side of pictures and masks in pixels")
@options.overwrite
def latents(vae_source: str, dataset_name: str, run_options: RunOptions, size: int, overwrite: bool) -> None:
    """Tell what an autoencoder makes of masks: whether they survive it, and noise.

    VAE is pocket, or a folder of diffusers that holds an AutoencoderKL.
    """
    from segscale.registry import build

    from ...backbones.loading.autoencoder import load_autoencoder
    from ..analysis.latents import latent_table, latent_text
    from ..report.figures.analyses import latents_figure
    from ..report.files import result_stem, write_analysis

    quiet_libraries()
    dataset = build("dataset", dataset_name, **run_options.dataset_arguments)
    vae = load_autoencoder(vae_source)
    table = latent_table(vae, dataset, size, run_options.limit, run_options.seed).assign(vae=vae_source)
    print(latent_text(table))
    stem = result_stem(
        Path(vae_source).name, dataset.name, dataset.split, "latents", f"size{size}", options=run_options
    )
    draw = partial(latents_figure, table)
    print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))


@click.group(cls=Group, resumes=True, no_args_is_help=False, examples=["segscale genmask ablate --steps 300 --seeds 1"])
def genmask() -> None:
    """Train the pocket twin that draws masks, or variants of it."""


@genmask.command(
    resumes=True, examples=["segscale genmask train --folder twins", "segscale genmask train --folder twins --steps 50"]
)
@click.option("--folder", type=options.FILE, metavar="FOLDER", default="twins", help="where the twin's folder goes")
@click.option("--steps", type=POSITIVE, help="instead of the recipe's own number")
@click.option("--seed", type=NATURAL, default=0, help="of scenes, texts and noise in every step")
def train(folder: Path, steps: int | None, seed: int) -> None:
    """Train the twin from nothing, and save it as a diffusers folder."""
    from ...backbones.loading.autoencoder import POCKET, load_autoencoder
    from ..training.direct_mask_twin import make_direct_mask_twin
    from ..training.direct_masks import MaskRecipe

    quiet_libraries()
    recipe = replace(MaskRecipe(seed=seed), **({} if steps is None else {"steps": steps}))
    kept = folder / f"unfinished-{recipe.steps}-seed{seed}.pt"
    print_written(make_direct_mask_twin(load_autoencoder(POCKET), folder, kept, recipe))
    kept.unlink(missing_ok=True)


@dataclass(frozen=True)
class AblationSize:
    """How much is trained and measured."""

    steps: int
    seeds: int
    limit: int
    scenes: int


@genmask.command(resumes=True, examples=["segscale genmask ablate --steps 300 --seeds 2 --variants a=0.05,a=0.5"])
@click.option("--variants", type=Names("variant"), help="only these", show_default="all")
@click.option("--steps", type=POSITIVE, default=1000, help="of every training")
@click.option("--seeds", type=POSITIVE, default=5, help="trainings of every variant")
@click.option("--limit", type=POSITIVE, default=200, help="held-out scenes that masks are drawn for")
@click.option("--scenes", type=POSITIVE, default=12000, help="scenes to train on")
@options.packed("size", AblationSize)
@options.results
@options.overwrite
def ablate(variants: tuple[str, ...] | None, size: AblationSize, results: Path, overwrite: bool) -> None:
    """Train variants of the recipe and measure masks and pictures of each."""
    from ..report.files import write_analysis
    from ..training.direct_mask_ablations import FOLDER, known_variants
    from ..training.direct_mask_ablations import ablate as ablated
    from ..training.direct_mask_table import REFERENCE, ablation_table

    quiet_libraries()
    names = known_variants(variants)
    outcomes = ablated(names, range(size.seeds), size.steps, (size.scenes, size.limit), results / FOLDER)
    table = ablation_table(outcomes)
    print(_by_variant(table, ("mean", "low", "high"), ".3f"))
    if "difference" in table:
        print(f"\nless {REFERENCE}, paired by seed and scene:\n")
        print(_by_variant(table, ("difference", "difference_low", "difference_high"), "+.3f"))
    stem = f"ablations-scenes{size.scenes}-steps{size.steps}-seeds{size.seeds}-first{size.limit}"
    print_written(*write_analysis(table, results, stem, overwrite, folder_name=FOLDER))


def _by_variant(table: pd.DataFrame, columns: tuple[str, str, str], spec: str) -> str:
    import pandas as pd

    from ..report.markdown import format_estimate, markdown_table
    from ..report.tables import table_rows

    value, low, high = columns
    known = pd.DataFrame(table[table[value].notna()])
    cells = [format_estimate(row[value], row[low], row[high], spec) for row in table_rows(known)]
    pivot = known.assign(cell=cells).pivot(index="variant", columns="measure", values="cell")
    return markdown_table(pd.DataFrame(pivot.reset_index()))


@genmask.command(examples=["segscale genmask measure", "segscale genmask measure --weights twins/pocket-genmask"])
@click.option("--weights", help="folder of a trained twin", show_default="that of the package")
@click.option("--limit", type=POSITIVE, default=200, help="held-out scenes that masks are drawn for")
def measure(weights: str | None, limit: int) -> None:
    """Measure masks of a twin, drawn in one step and in ten: cIoU of every class of held-out scenes."""
    from ...backbones.build import build_backbone
    from ...backbones.pocket.direct_masks import NAME
    from ...backbones.wan import WanMasks
    from ..report.markdown import format_share
    from ..training.direct_mask_scenes import MaskScenes
    from ..training.direct_mask_table import measured_masks

    quiet_libraries()
    backbone = build_backbone(NAME, weights=weights)
    assert isinstance(backbone, WanMasks)
    for title, estimate in measured_masks(backbone, MaskScenes(backbone.vae, "val", limit, 0)).items():
        print(f"{title:16} {format_share(estimate)}")
