"""Commands that look into a backbone's blocks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from ..generation.choices import CAPTIONS, Networks, SamplingChoices
from ..runs.options import RunOptions
from . import options
from .command import command
from .parameters import POSITIVE, WIDTH
from .steps import print_written, quiet_libraries, refuse_ranks
from .subject import Subject, subject

if TYPE_CHECKING:
    import pandas as pd


@command(resumes=True, examples=["segscale perturb pocket-sd3 --limit 20", "segscale perturb pocket-sd15 --width inf"])
@click.option("--width", type=WIDTH, default=0.1, help="of the Gaussian, as a share of the image's side, or inf")
@click.option("--batch", type=POSITIVE, show_default="8", help="blocks, or pictures, that share a forward")
@click.option("--generate", "pictures", type=POSITIVE, metavar="N", help="also draw N pictures with each block blurred")
@subject(timestep="that of seg4diff-described", read=options.images)
def perturb(subject: Subject, run_options: RunOptions, overwrite: bool, width: float, pictures: int | None) -> None:
    """Blur one block's attention on text. Tells what that does to the denoiser, beside what the block segments."""
    from ..analysis.modalities import printable
    from ..analysis.perturbation import GENERATED_VIEW, VIEW, correlated_view, correlation_text, perturb
    from ..report.figures.analyses import analysis_figure
    from ..report.files import write_analysis

    refuse_ranks("perturb")
    quiet_libraries()
    task = subject.task(run_options)
    lost = None if pictures is None else _lost_fidelity(subject.backbone_name, width, pictures, run_options)
    table = perturb(subject.backbone_name, task, run_options, width, subject.timestep, lost)
    view = VIEW if lost is None else GENERATED_VIEW
    print(f"{printable(table, view)}\n{correlation_text(table)}")
    drawn = None if pictures is None else f"generate{pictures}"
    stem = subject.stem(task, f"width{width:g}", VIEW.name, drawn, run_options=run_options)
    draw = partial(analysis_figure, table, correlated_view(view, table))
    print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))


def _lost_fidelity(backbone_name: str, width: float, pictures: int, run_options: RunOptions) -> pd.DataFrame:
    """What the F1 of captions and pictures loses when a block is blurred, one row per block, in points."""
    import pandas as pd

    from ...backbones.attention.sites import text_sites
    from ...backbones.build import build_shape_only
    from ...methods.build import method_defaults
    from ..analysis.perturbation import LOST
    from ..generation.strengths import PowerQuestion, measure_blurred_blocks

    choices = SamplingChoices(guidance_width=width)
    drawn = replace(run_options, limit=pictures, split=None, data_root=None, captions=None)
    sites = build_shape_only(backbone_name).sites(method_defaults(backbone_name).image_size)
    question = PowerQuestion(backbone_name, CAPTIONS, choices, Networks(), drawn)
    question.check(SamplingChoices())
    table = measure_blurred_blocks(question, [*text_sites(sites).values()])
    f1 = pd.DataFrame(table[table["measure"] == "f1"])
    ends = {"mean": 0 - f1["difference"], "low": 0 - f1["difference_high"], "high": 0 - f1["difference_low"]}
    return f1[["layer", "site", "images"]].assign(measure=LOST, **ends)


@command(examples=["segscale features pocket-sd3 --limit 20"])
@subject(timestep="the backbone's recommended one", read=options.images)
def features(subject: Subject, run_options: RunOptions, overwrite: bool) -> None:
    """Show principal components of image tokens per block. How much of them is position and how much class is told."""
    from ..analysis.features import VIEW, features_on
    from ..analysis.modalities import printable
    from ..report.feature_figure import features_figure
    from ..report.figures.analyses import analysis_figure
    from ..report.files import cut_stem, write_analysis

    refuse_ranks("features")
    quiet_libraries()
    task = subject.task(run_options)
    table, pictures = features_on(subject.backbone_name, task, run_options, subject.timestep)
    print(printable(table, VIEW))
    stem = subject.stem(task, VIEW.name, run_options=run_options)
    draw = partial(analysis_figure, table, VIEW)
    written = write_analysis(table, run_options.results, stem, overwrite, draw)
    shown = written[0].with_name(f"{cut_stem(f'{stem}-{pictures.image}'.replace('/', '-'))}.png")
    features_figure(pictures.pixels, pictures.maps, shown)
    print_written(*written, shown)
