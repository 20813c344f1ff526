"""Commands that make LoRAs: by mask alignment, or of published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import click

from ...backbones.loading.options import Training
from ..runs.options import RunOptions
from ..training.settings import AlignmentSettings, Reading, Targets
from . import options
from .command import command
from .parameters import NUMBER, POSITIVE, Name
from .steps import print_written, quiet_libraries

_folder = click.argument("folder", metavar="FOLDER", type=options.FILE)


@command(
    resumes=True,
    examples=[
        "segscale align pocket-sd3 results/lora --rank 4 --steps 300 --batch 32 --learning-rate 1e-3 --warm-up 50",
    ],
)
@options.backbone
@_folder
@options.name("dataset", "pocket")
@options.name("protocol", "standard", help="whose prompts are used where names alone are not")
@options.training
@click.option("--site", "site_name", help="the expert block", show_default="the backbone's grounding site")
@click.option("--reading", type=click.Choice(get_args(Reading)), default="published", help="whose rules hold")
@click.option(
    "--targets",
    type=click.Choice(get_args(Targets)),
    default="named",
    help="masks of named classes, or matched with maps",
)
@click.option("--rank", type=POSITIVE, default=16)
@click.option("--steps", type=POSITIVE, default=3000)
@click.option("--batch", "images", type=POSITIVE, default=16, help="images of a step")
@click.option("--learning-rate", type=NUMBER, default=1e-5, help="of the LoRA")
@click.option("--head-learning-rate", type=NUMBER, default=1e-4, help="of the convolution of the published code")
@click.option("--warm-up", type=POSITIVE, default=500, help="steps until the rate is highest")
@click.option("--focal", type=NUMBER, default=0.1, help="weight of the focal loss")
@click.option("--dice", type=NUMBER, default=0.2, help="weight of the dice loss")
@options.packed("settings", AlignmentSettings)
def align(
    backbone_name: str,
    folder: Path,
    dataset_name: str,
    protocol_name: str,
    site_name: str | None,
    settings: AlignmentSettings,
    run_options: RunOptions,
) -> None:
    """Align a block's attention with masks, by a LoRA. It is stored in FOLDER, for --lora of other commands."""
    from segscale.files import explained_writes
    from segscale.registry import build

    from ...backbones.loading.lora import LORA_FILE
    from ..runs.plan import build_task
    from ..training.align import align

    quiet_libraries()
    task = build_task(dataset_name, build("protocol", protocol_name), run_options)
    losses = align(backbone_name, task, replace(settings, seed=run_options.seed), folder, run_options, site_name)
    written = folder / "losses.csv"
    with explained_writes(folder, "FOLDER"):
        losses.to_csv(written, index=False)
    print_written(folder / LORA_FILE, written)


@command("convert-lora", examples=["segscale convert-lora sd3 lora_weights.pth results/seg4diff-lora --alpha 16"])
@click.argument("backbone_name", metavar="BACKBONE", type=Name("backbone"))
@click.argument("source", metavar="FILE", type=options.FILE)
@_folder
@click.option("--alpha", type=NUMBER, show_default="the rank", help="the LoRA's alpha, which the file does not hold")
@click.option(
    "--training", type=click.Choice(get_args(Training)), default="masks", help="what it was taught with, for tables"
)
def convert_lora(backbone_name: str, source: Path, folder: Path, alpha: float | None, training: Training) -> None:
    """Write a pickled LoRA as safetensors. Nothing but tensors is read from the pickle."""
    from ...backbones.build import build_shape_only
    from ...backbones.loading.lora_pickle import convert_pickle

    quiet_libraries()
    print_written(convert_pickle(source, folder, build_shape_only(backbone_name), alpha, training))
