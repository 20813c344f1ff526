"""Commands about generators that are taught to draw masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..runs.options import RunOptions
from . import options
from .command import command
from .parameters import NATURAL
from .steps import print_written, quiet_libraries


@command(examples=["segscale latents pocket --limit 50", "segscale latents /models/sd15 --dataset voc --size 512"])
@click.argument("vae_source", metavar="VAE")
@options.name("dataset", "pocket")
@options.split
@options.data_root
@options.limit
@options.results
@click.option("--seed", type=NATURAL, default=0, help="of the noise")
@options.packed("run_options", RunOptions)
@click.option("--size", type=int, default=64, help="side of pictures and masks in pixels")
@options.overwrite
def latents(vae_source: str, dataset_name: str, run_options: RunOptions, size: int, overwrite: bool) -> None:
    """Tell what an autoencoder makes of masks: whether they survive it, and noise.

    VAE is pocket, or a folder of diffusers that holds an AutoencoderKL.
    """
    from segscale.registry import build

    from ...backbones.loading.autoencoder import load_autoencoder
    from ..analysis.latents import latent_table, latent_text
    from ..analysis.variants import FOLDER
    from ..report.figures.analyses import latents_figure
    from ..report.files import result_stem, write_analysis

    quiet_libraries()
    dataset = build("dataset", dataset_name, **run_options.dataset_arguments)
    vae = load_autoencoder(vae_source)
    table = latent_table(vae, dataset, size, run_options.limit, run_options.seed).assign(vae=vae_source)
    print(latent_text(table))
    stem = result_stem(Path(vae_source).name, dataset.name, dataset.split, "latents", limit=run_options.limit)
    draw = partial(latents_figure, table)
    print_written(*write_analysis(table, run_options.results / FOLDER, stem, overwrite, draw))
