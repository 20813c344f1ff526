"""Commands that evaluate variants of methods in one pass over the images."""

from __future__ import annotations

from functools import partial

import click

from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import command
from .parameters import TIMESTEP, Name, Names
from .steps import print_written, quiet_libraries
from .subject import Subject, subject

_timesteps = Names("timestep", click.types.convert_type(TIMESTEP))


@command(resumes=True, examples=["segscale timesteps pocket-sd3 --method vanilla --timesteps 100,500 --limit 20"])
@options.names("method", "vanilla,goca-described")
@click.option("--timesteps", type=_timesteps, show_default="twelve from 20 to 900", help="t in 1..1000")
@subject(timestep=None)
def timesteps(
    subject: Subject,
    run_options: RunOptions,
    overwrite: bool,
    method_names: tuple[str, ...],
    timesteps: tuple[int, ...] | None,
) -> None:
    """Tell the mIoU against the timestep that is read. One pass gives all, and a figure shows them."""
    from ..analysis.timesteps import TIMESTEPS, best_text, evaluate_timesteps, printable
    from ..report.figures.analyses import timesteps_figure
    from ..report.files import write_analysis
    from ..report.tables import interval_notes

    quiet_libraries()
    task = subject.task(run_options)
    table = evaluate_timesteps(subject.backbone_name, method_names, timesteps or TIMESTEPS, task, run_options)
    if is_rank_zero():
        print("\n\n".join([f"{printable(table)}\n{best_text(table)}", *interval_notes(table)]))
        chosen = None if timesteps is None else "t" + "+".join(f"{timestep:g}" for timestep in timesteps)
        stem = subject.stem(task, *method_names, "timesteps", chosen, run_options=run_options)
        draw = partial(timesteps_figure, table)
        print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))


@command(resumes=True, examples=["segscale ablate pocket-sd15 --limit 20"])
@click.option("--method", "method_name", type=Name("method"), default="goca-described", help="what is ablated")
@subject(timestep="the method's own")
def ablate(subject: Subject, run_options: RunOptions, overwrite: bool, method_name: str) -> None:
    """Tell what each choice of a method is worth. One is exchanged at a time, in one pass over the images."""
    from ..analysis.ablation import ablate, ablated_cells, printable
    from ..report.figures.analyses import ablation_figure
    from ..report.files import write_analysis
    from ..report.tables import interval_notes

    quiet_libraries()
    task = subject.task(run_options)
    cells = [*ablated_cells(method_name, subject.backbone_name, subject.timestep)]
    table = ablate(cells, subject.backbone_name, task, run_options)
    if is_rank_zero():
        print("\n\n".join([printable(table), *interval_notes(table)]))
        stem = subject.stem(task, method_name, "ablation", run_options=run_options)
        draw = partial(ablation_figure, table)
        print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))
