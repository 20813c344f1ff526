"""The command that measures guidance methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import get_args

import click

from ..generation.choices import CAPTIONS, GuidanceMethod, Networks, SamplingChoices
from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import command
from .generate import drawing, networks
from .parameters import NUMBER, Names
from .steps import print_written, quiet_libraries

METHODS = "cfg,s-cfg,goca-s-cfg"
SCALES = "2,3,5,7.5,10"
_methods = Names("guidance method", click.Choice(get_args(GuidanceMethod)))
_scales = Names("scale", click.types.convert_type(NUMBER))


@dataclass(frozen=True)
class Strengths:
    """Guidance methods and strengths to measure, and whose pictures."""

    backbone_name: str
    dataset_name: str
    methods: tuple[GuidanceMethod, ...]
    scales: tuple[float, ...]

    @property
    def name_parts(self) -> tuple[str, ...]:
        """Methods and scales, where they are not as by default, as parts of the name of a result's file."""
        methods, scales = sorted(self.methods), [f"{scale:g}" for scale in sorted(self.scales)]
        chosen = {"+".join(methods): sorted(METHODS.split(",")), "+".join(scales): SCALES.split(",")}
        return tuple(part for part, default in chosen.items() if part != "+".join(default))


@command(
    resumes=True, examples=["segscale guidance pocket-sd15 --limit 20 --batch 10 --methods cfg,goca-s-cfg --scales 3,5"]
)
@options.backbone
@options.name("dataset", CAPTIONS, help="whose captions are drawn")
@click.option("--methods", type=_methods, default=METHODS)
@click.option("--scales", type=_scales, default=SCALES, help="strengths of guidance")
@options.packed("strengths", Strengths)
@options.overwrite
@networks
@drawing
@options.picture_batch
@options.text_cache
@options.images
def guidance(
    strengths: Strengths, overwrite: bool, networks: Networks, choices: SamplingChoices, run_options: RunOptions
) -> None:
    """Measure generative power against the strength of guidance, by method. A figure shows it.

    Methods are set against plain guidance of the same strength or, where it is not among them, against s-cfg.
    """
    from ..generation.settings import refuse_unread
    from ..generation.strength_tables import strengths_figure, strengths_text
    from ..generation.strengths import PowerQuestion, draw_strengths, measure_strengths
    from ..report.files import result_stem, write_analysis

    quiet_libraries()
    refuse_unread(choices, strengths.methods)
    names = (strengths.backbone_name, strengths.dataset_name)
    question = PowerQuestion(*names, choices, networks, run_options)
    if not is_rank_zero():
        draw_strengths(question, strengths.methods, strengths.scales)
        return
    table = measure_strengths(question, strengths.methods, strengths.scales)
    print(strengths_text(table))
    chosen = (*strengths.name_parts, *choices.name_parts, *networks.name_parts)
    stem = result_stem(*names, "guidance", *chosen, options=run_options)
    draw = partial(strengths_figure, table)
    print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))
