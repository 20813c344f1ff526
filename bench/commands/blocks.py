"""Commands that look into a backbone's blocks."""

from __future__ import annotations

from functools import partial

import click

from ..runs.options import RunOptions
from .command import command
from .parameters import POSITIVE, WIDTH
from .steps import print_written, quiet_libraries
from .subject import Subject, subject


@command(resumes=True, examples=["segscale perturb pocket-sd3 --limit 20", "segscale perturb pocket-sd15 --width inf"])
@click.option("--width", type=WIDTH, default=0.1, help="of the Gaussian, as a share of the image's side, or inf")
@click.option("--batch", type=POSITIVE, show_default="8", help="blocks that share a forward")
@subject(timestep="that of seg4diff-described")
def perturb(subject: Subject, run_options: RunOptions, overwrite: bool, width: float) -> None:
    """Blur one block's attention on text. Tells what that does to the denoiser, beside what the block segments."""
    from ..analysis.modalities import printable
    from ..analysis.perturbation import VIEW, Perturbation, correlation_text, perturb
    from ..analysis.variants import FOLDER
    from ..report.figures.analyses import analysis_figure
    from ..report.files import write_analysis

    quiet_libraries()
    task = subject.task(run_options)
    perturbation = Perturbation(width=width, timestep=subject.timestep)
    table = perturb(perturbation, subject.backbone_name, task, run_options)
    print(f"{printable(table, VIEW)}\n{correlation_text(table)}")
    stem = subject.stem(task, f"width{width:g}", VIEW.name, limit=run_options.limit)
    draw = partial(analysis_figure, table, VIEW)
    print_written(*write_analysis(table, run_options.results / FOLDER, stem, overwrite, draw))


@command(examples=["segscale features pocket-sd3 --limit 20"])
@subject(timestep="the backbone's recommended one")
def features(subject: Subject, run_options: RunOptions, overwrite: bool) -> None:
    """Show principal components of image tokens per block. How much of them is position and how much class is told."""
    from ..analysis.features import VIEW, features_on
    from ..analysis.modalities import printable
    from ..analysis.variants import FOLDER
    from ..report.feature_figure import features_figure
    from ..report.figures.analyses import analysis_figure
    from ..report.files import write_analysis

    quiet_libraries()
    task = subject.task(run_options)
    table, pictures = features_on(subject.backbone_name, task, run_options, subject.timestep)
    print(printable(table, VIEW))
    folder = run_options.results / FOLDER
    stem = subject.stem(task, VIEW.name, limit=run_options.limit)
    written = write_analysis(table, folder, stem, overwrite, partial(analysis_figure, table, VIEW))
    shown = folder / f"{stem}-{pictures.image}.png"
    features_figure(pictures.pixels, pictures.maps, shown)
    print_written(*written, shown)
