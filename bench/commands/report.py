"""Commands that make tables of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segscale.catalogue import shipped_folder

from . import options
from .command import command
from .steps import exit_where, print_written

if TYPE_CHECKING:
    import pandas as pd

PAPER = str(shipped_folder("results") / "paper.csv")
_paper = "set published numbers beside the runs; FILE holds them, the package's own if it is not given"


@command(examples=["segscale table", "segscale table --paper"])
@click.option("--paper", type=options.FILE, metavar="[FILE]", is_flag=False, flag_value=PAPER, help=_paper)
@options.results
def table(paper: Path | None, results: Path) -> None:
    """Print the scaling table of all stored runs. CSV files and a figure are written."""
    rows, unreadable = tabulate_runs(results)
    if paper is not None:
        from ..report.published import beside_published, read_published

        print(f"\n{beside_published(rows, read_published(paper))}")
    exit_where(unreadable)


@command(examples=["segscale compare pocket-sd3/goca pocket-sd15/vanilla"])
@click.argument("run", metavar="RUN")
@click.argument("reference", metavar="REFERENCE")
@options.results
def compare(run: str, reference: str, results: Path) -> None:
    """Compare stored runs on the same images. Names of each are separated by slashes, as backbone/method."""
    from ..report.comparison import compare
    from ..report.comparison_tables import comparison_details, comparison_table
    from ..report.evaluated import evaluate_runs
    from ..report.pairs import paired, select

    evaluated = evaluate_runs(results)
    comparisons = compare(paired(select(evaluated, run), select(evaluated, reference)))
    print(comparison_table(comparisons))
    if len(comparisons) == 1:
        print(f"\n{comparison_details(comparisons[0])}")


@command(examples=["segscale leaderboard"])
@options.results
def leaderboard(results: Path) -> None:
    """Write leaderboard.md from all stored runs."""
    from ..report.evaluated import evaluate_all
    from ..report.files import write_leaderboard
    from ..report.tables import long_table

    evaluation = evaluate_all(results)
    print_written(write_leaderboard(long_table(evaluation.runs), results))
    exit_where(evaluation.unreadable > 0)


@command(examples=["segscale report", "segscale report --output pocket.html"])
@click.option("--output", type=options.FILE, metavar="FILE", help="instead of report.html in the results folder")
@options.results
def report(output: Path | None, results: Path) -> None:
    """Write all stored runs as one HTML page that needs no network."""
    from ..report.evaluated import evaluate_all
    from ..report.page.render import write_page

    evaluation = evaluate_all(results)
    print_written(write_page(evaluation, output or results / "report.html"))
    exit_where(evaluation.unreadable > 0)


def tabulate_runs(results: Path) -> tuple[pd.DataFrame, bool]:
    """Prints methods x backbones, writes the tables and the figure.

    Returns:
        The long table, and whether a run could not be read.
    """
    from ..report.evaluated import evaluate_all
    from ..report.files import write_tables
    from ..report.markdown import method_matrix
    from ..report.tables import class_table, long_table, notes

    evaluation = evaluate_all(results)
    rows = long_table(evaluation.runs)
    print("\n\n".join([method_matrix(rows), *notes(rows)]) + "\n")
    print_written(*write_tables(rows, class_table(evaluation.runs), results))
    return rows, evaluation.unreadable > 0
