"""Commands that make tables of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segscale.catalogue import shipped_folder

from . import options
from .command import command
from .steps import print_written

if TYPE_CHECKING:
    import pandas as pd

PAPER = str(shipped_folder("results") / "paper.csv")
_paper = "set published numbers beside the runs; FILE holds them, the package's own if it is not given"


@command(examples=["segscale table", "segscale table --paper"])
@click.option("--paper", type=options.FILE, metavar="[FILE]", is_flag=False, flag_value=PAPER, help=_paper)
@options.results
def table(paper: Path | None, results: Path) -> None:
    """Print the scaling table of all stored runs. CSV files and a figure are written."""
    rows = tabulate_runs(results)
    if paper is not None:
        from ..report.published import beside_published, read_published

        print(f"\n{beside_published(rows, read_published(paper))}")


@command(examples=["segscale leaderboard"])
@options.results
def leaderboard(results: Path) -> None:
    """Write leaderboard.md from all stored runs."""
    from ..report.evaluated import evaluate_runs
    from ..report.files import write_leaderboard
    from ..report.tables import long_table

    print_written(write_leaderboard(long_table(evaluate_runs(results)), results))


def tabulate_runs(results: Path) -> pd.DataFrame:
    """Prints methods x backbones, writes the tables and the figure; returns the long table."""
    from ..report.evaluated import evaluate_runs
    from ..report.files import write_tables
    from ..report.markdown import method_matrix
    from ..report.tables import class_table, long_table, notes

    evaluated = evaluate_runs(results)
    rows = long_table(evaluated)
    print("\n\n".join([method_matrix(rows), *notes(rows)]) + "\n")
    print_written(*write_tables(rows, class_table(evaluated), results))
    return rows
