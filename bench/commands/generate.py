"""The command that draws pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

import click

from ..generation.choices import GuidanceMethod, GuidanceReading, SamplingChoices
from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import Option, command
from .parameters import NUMBER, POSITIVE, WIDTH
from .steps import print_written, quiet_libraries

_picture = partial(click.option, cls=Option, heading="Pictures")
sampling = options.chained(
    _picture("--guidance", type=NUMBER, help="scale; 1: none", show_default="the backbone's"),
    _picture("--guidance-method", type=click.Choice(get_args(GuidanceMethod)), default="cfg"),
    _picture(
        "--guidance-reading",
        type=click.Choice(get_args(GuidanceReading)),
        default="published",
        help="whose rules make the segments of s-cfg and goca-s-cfg",
    ),
    _picture("--guidance-site", help="block that is blurred", show_default="the one that segments best alone"),
    _picture("--guidance-width", type=WIDTH, default=0.1, help="of its blur, as a share of the side, or inf"),
    _picture("--steps", type=POSITIVE, help="inference steps", show_default="the backbone's"),
    _picture("--size", type=POSITIVE, help="side in pixels", show_default="the backbone's"),
    options.packed("choices", SamplingChoices),
)
_examples = ["segscale generate pocket-sd15 --limit 4", "segscale generate pocket-sd3 --limit 4 --guidance 5 --batch 4"]


@command(resumes=True, examples=_examples)
@options.backbone
@options.name("dataset", "pocket", help="whose captions are drawn")
@click.option("--prompts", type=options.FILE, metavar="FILE", help="one prompt per line, instead of captions")
@sampling
@options.batch
@options.run
def generate(
    backbone_name: str, dataset_name: str, prompts: Path | None, choices: SamplingChoices, run_options: RunOptions
) -> None:
    """Draw a picture for every caption of a dataset, or for every line of a file."""
    from ..generation.pictures import draw_pictures
    from ..generation.prompts import captions_of_dataset, prompts_of_file
    from ..generation.settings import sampling_settings

    quiet_libraries()
    asked = captions_of_dataset(dataset_name, run_options) if prompts is None else prompts_of_file(prompts)
    settings = sampling_settings(backbone_name, choices, run_options.seed)
    pictures = draw_pictures(backbone_name, asked, settings, run_options)
    if is_rank_zero():
        print_written(pictures.folder)
