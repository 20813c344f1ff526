"""Commands that make LoRAs, by mask alignment or of published ones, and tell what one buys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import click

from segscale.errors import UserError

from ...backbones.loading.options import Training, check_change
from ..generation.choices import CAPTIONS, Networks, SamplingChoices
from ..runs.options import RunOptions
from ..training.settings import AlignmentSettings, Reading, Targets
from . import options
from .command import command
from .generate import networks, sampling
from .parameters import NUMBER, POSITIVE, Name
from .steps import print_written, quiet_libraries, refuse_ranks
from .subject import Subject

_folder = click.argument("folder", metavar="FOLDER", type=options.FILE)


@dataclass(frozen=True)
class Gain:
    """By what it is told what a LoRA buys."""

    method_names: tuple[str, ...] | None
    pictures: int | None
    drawn_name: str


@command(
    resumes=True,
    examples=[
        "segscale align pocket-sd3 results/lora --rank 4 --steps 300 --batch 32 --learning-rate 1e-3 --warm-up 50",
    ],
)
@options.backbone
@_folder
@options.name("dataset", "pocket")
@options.name("protocol", "standard", help="whose class names, merged labels and prompts hold")
@options.packed("subject", Subject)
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
    subject: Subject,
    folder: Path,
    site_name: str | None,
    settings: AlignmentSettings,
    run_options: RunOptions,
) -> None:
    """Align a block's attention with masks, by a LoRA. It is stored in FOLDER, for --lora of other commands."""
    from segscale.files import explained_writes

    from ...backbones.loading.lora import LORA_FILE
    from ..training.align import align

    quiet_libraries()
    refuse_ranks("align")
    if run_options.load.lora is not None:
        problem = "the LoRA that is trained would be one beside --lora, and commands take a single one"
        raise UserError(problem, "leave --lora out")
    check_change("a LoRA cannot be trained", run_options.load)
    if settings.warm_up >= max(settings.steps, 2):
        problem = f"a warm-up of {settings.warm_up} steps leaves none of {settings.steps} at the full learning rate"
        raise UserError(problem, f"name a shorter one, such as --warm-up {max(settings.steps // 10, 1)}")
    if not settings.rules.convolution and settings.head_learning_rate != AlignmentSettings().head_learning_rate:
        problem = f"as {settings.reading} there is no convolution, so nothing reads --head-learning-rate"
        raise UserError(problem, "leave it out, or take --reading published")
    task, settings = subject.task(run_options), replace(settings, seed=run_options.seed)
    losses = align(subject.backbone_name, task, settings, folder, run_options, site_name)
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


@command(
    "lora-gain",
    resumes=True,
    examples=["segscale lora-gain pocket-sd3 --lora results/lora --limit 100 --pictures 60 --batch 20"],
)
@options.backbone
@options.name("dataset", "pocket")
@options.name("protocol", "standard")
@options.packed("subject", Subject)
@options.methods
@click.option("--pictures", type=POSITIVE, metavar="N", help="also draw N captions' pictures, and measure power")
@click.option("--drawn", "drawn_name", type=Name("dataset"), default=CAPTIONS, help="whose captions those are")
@options.packed("gain", Gain)
@options.overwrite
@networks
@sampling
@options.pipeline
@options.run
def lora_gain(
    subject: Subject,
    gain: Gain,
    overwrite: bool,
    networks: Networks,
    choices: SamplingChoices,
    run_options: RunOptions,
) -> None:
    """Tell what a LoRA buys: mIoU of every method with and without it, and generative power."""
    import pandas as pd

    from ..generation.lora_gain import gain_text, power_gain, segmentation_gain, without_lora
    from ..generation.strengths import PowerQuestion
    from ..report.files import result_stem, write_analysis

    quiet_libraries()
    refuse_ranks("lora-gain")
    if gain.pictures is None and (choices, networks, gain.drawn_name) != (SamplingChoices(), Networks(), CAPTIONS):
        raise UserError(
            "no pictures are asked for, so nothing reads how they are drawn or measured", "add --pictures 100"
        )
    backbone_name, task = subject.backbone_name, subject.task(run_options)
    question = None
    if gain.pictures is not None:
        drawn = replace(run_options, limit=gain.pictures)
        if gain.drawn_name != subject.dataset_name:
            drawn = replace(drawn, split=None, data_root=None, captions=None)
        question = PowerQuestion(backbone_name, gain.drawn_name, choices, networks, drawn)
        question.check(choices)
    table = segmentation_gain(backbone_name, task, gain.method_names, run_options)
    if question is not None:
        table = pd.concat([table, power_gain(question)], ignore_index=True)
    print(gain_text(table))
    lora = Path(run_options.load.lora or "").resolve().name
    of = "" if gain.drawn_name == CAPTIONS else f"-{gain.drawn_name}"
    pictures = None if gain.pictures is None else f"pictures{gain.pictures}{of}"
    methods = "+".join(gain.method_names or ()) or None
    names = (backbone_name, lora, task.dataset.name, task.dataset.split, task.protocol.name, methods, "lora-gain")
    drawn_by = (pictures, *choices.name_parts, *networks.name_parts)
    stem = result_stem(*names, *drawn_by, options=without_lora(run_options))
    print_written(*write_analysis(table, run_options.results, stem, overwrite))
