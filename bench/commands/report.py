"""Commands that make tables of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from segscale.catalogue import shipped_folder

from ..report.selection import ImageFormat, RunSelection, TableFormat
from . import options
from .command import command
from .parameters import NUMBER, Names
from .steps import exit_where, print_written

if TYPE_CHECKING:
    import pandas as pd

PAPER = str(shipped_folder("results") / "paper.csv")
_format = "methods by datasets in this format"
_tolerance = "points of mIoU by which a run may differ: machines round differently, which flips single pixels"
AGREES_WITHIN = 0.5
_formats = "png, svg or both"
_paper = "set published numbers beside the runs; FILE holds them, the package's own if it is not given"


@command(
    examples=[
        "segscale table",
        "segscale table --format latex --protocol standard --method vanilla,goca --paper",
    ]
)
@click.option("--format", "table_format", type=click.Choice(get_args(TableFormat)), help=_format)
@click.option("--paper", type=options.FILE, metavar="[FILE]", is_flag=False, flag_value=PAPER, help=_paper)
@options.selection
@options.results
def table(selection: RunSelection, table_format: TableFormat | None, paper: Path | None, results: Path) -> None:
    """Print tables of stored runs. Of all runs, CSV files and a figure are written too.

    Without --format these are methods by backbones; with it, methods by datasets, as papers have them.
    """
    if table_format is None and paper is None and not selection.names_any:
        _, _, unreadable = tabulate_runs(results)
        return exit_where(unreadable)
    from ..report.evaluated import evaluate_all
    from ..report.layout import formatted
    from ..report.published import beside_published, read_published
    from ..report.tables import long_table

    evaluation = selection.of(evaluate_all(results))
    rows = long_table(evaluation.runs)
    if paper is not None:
        rows = beside_published(rows, read_published(paper))
    print(formatted(rows, table_format or "github"), end="")
    return exit_where(evaluation.unreadable > 0)


@command(examples=["segscale compare pocket-sd3/goca pocket-sd15/vanilla"])
@click.argument("run", metavar="RUN")
@click.argument("reference", metavar="REFERENCE")
@options.results
def compare(run: str, reference: str, results: Path) -> None:
    """Compare stored runs on the same images. Names of each are separated by slashes, as backbone/method.

    The beginning of a run's id stands for that run alone.
    """
    from ..report.comparison import compare
    from ..report.comparison_tables import comparison_details, comparison_table
    from ..report.evaluated import evaluate_runs
    from ..report.pairs import paired, select

    evaluated = evaluate_runs(results)
    comparisons = compare(paired(select(evaluated, run), select(evaluated, reference)))
    print(comparison_table(comparisons))
    if len(comparisons) == 1:
        print(f"\n{comparison_details(comparisons[0])}")


@command(examples=["segscale leaderboard", "segscale leaderboard --method vanilla,goca"])
@options.selection
@options.results
def leaderboard(selection: RunSelection, results: Path) -> None:
    """Write leaderboard.md from all stored runs. Of some runs it is printed instead."""
    from ..report.evaluated import evaluate_all
    from ..report.files import write_leaderboard
    from ..report.markdown import leaderboard
    from ..report.referring import referring_sections, referring_table
    from ..report.tables import long_table

    evaluation = selection.of(evaluate_all(results))
    rows, expressions = long_table(evaluation.runs), referring_table(evaluation.runs)
    if selection.names_any:
        print(leaderboard(rows, referring_sections(expressions)))
    else:
        print_written(write_leaderboard(rows, expressions, results))
    exit_where(evaluation.unreadable > 0)


@command(examples=["segscale report", "segscale report --output pocket.html"])
@click.option("--output", type=options.FILE, metavar="FILE", help="instead of report.html in the results folder")
@options.selection
@options.results
def report(selection: RunSelection, output: Path | None, results: Path) -> None:
    """Write stored runs as one HTML page that needs no network."""
    from ..report.evaluated import evaluate_all
    from ..report.page.render import write_page

    evaluation = selection.of(evaluate_all(results))
    print_written(write_page(evaluation, output or results / "report.html"))
    exit_where(evaluation.unreadable > 0)


@command(examples=["segscale agree results/scaling.csv", "segscale agree results/scaling.csv --method vanilla"])
@click.argument("expected", metavar="FILE", type=options.FILE)
@click.option("--tolerance", type=NUMBER, default=AGREES_WITHIN, help=_tolerance)
@options.selection
@options.results
def agree(selection: RunSelection, expected: Path, tolerance: float, results: Path) -> None:
    """Compare stored runs with an earlier scaling.csv. The status is 1 where a run differs or is missing."""
    from ..report.agreement import agreement, read_expected
    from ..report.evaluated import evaluate_all
    from ..report.tables import long_table

    rows = selection.of_table(read_expected(expected))
    found = agreement(long_table(selection.of(evaluate_all(results)).runs), rows, tolerance)
    for line in found.disagreements:
        print(line)
    disagree = f"{len(found.disagreements)} lines disagree by more than {tolerance:g} points"
    print(f"{found.compared} runs compared with {expected}; {disagree}")
    exit_where(bool(found.disagreements))


@command(examples=["segscale figures", "segscale figures --format svg --method vanilla,goca --output paper"])
@click.option(
    "--format", "formats", type=Names("format", click.Choice(get_args(ImageFormat))), default="png,svg", help=_formats
)
@click.option("--output", type=options.FILE, metavar="FOLDER", help="instead of figures in the results folder")
@options.selection
@options.results
def figures(selection: RunSelection, formats: tuple[ImageFormat, ...], output: Path | None, results: Path) -> None:
    """Draw stored runs: scaling, cost, classes, thresholds, and examples where masks were kept."""
    from ..report.evaluated import evaluate_all
    from ..report.figures.write import write_figures

    evaluation = selection.of(evaluate_all(results))
    print_written(*write_figures(evaluation.runs, output or results / "figures", formats))
    exit_where(evaluation.unreadable > 0)


def tabulate_runs(results: Path) -> tuple[pd.DataFrame, pd.DataFrame, bool]:
    """Prints methods x backbones, writes the tables and the figure.

    Returns:
        The long table, that of expressions, and whether a run could not be read.
    """
    from ..report.evaluated import evaluate_all
    from ..report.files import write_tables
    from ..report.markdown import method_matrix
    from ..report.referring import referring_table, referring_text
    from ..report.tables import class_table, long_table, notes

    evaluation = evaluate_all(results)
    rows = long_table(evaluation.runs)
    print("\n\n".join([method_matrix(rows), *notes(rows)]) + "\n")
    expressions = referring_table(evaluation.runs)
    if len(expressions):
        print(f"{referring_text(expressions)}\n")
    print_written(*write_tables(rows, class_table(evaluation.runs), expressions, results))
    return rows, expressions, evaluation.unreadable > 0
