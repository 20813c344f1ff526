"""The command that compares the boundaries of kept masks with those of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .command import command
from .parameters import NUMBER
from .steps import exit_where, quiet_libraries

if TYPE_CHECKING:
    from ..runs.boundaries import RunBoundaries

PUBLISHED_TOLERANCE = 0.75
_tolerance = "how far a boundary pixel may be from its match, in percent of the image's diagonal"


@command(examples=["segscale boundary pocket-sd15/vanilla", "segscale boundary pocket-sd15/vanilla --tolerance 2"])
@click.argument("run", metavar="RUN")
@click.option("--tolerance", type=NUMBER, default=PUBLISHED_TOLERANCE, help=_tolerance)
@options.results
@options.data_root
def boundary(run: str, tolerance: float, results: Path, data_root: str | None) -> None:
    """Print the boundary F-score of a stored run from its kept masks. RUN is named as for segscale compare.

    Images whose label is not what the run was made of are named and left out, and the exit status is 1 then.
    """
    from ..report.boundary import boundary_table
    from ..report.evaluated import evaluate_runs
    from ..report.pairs import select_one
    from ..runs.boundaries import compare_boundaries
    from ..runs.store import RunStore

    quiet_libraries()
    chosen = select_one(evaluate_runs(results), run)
    compared = compare_boundaries(RunStore(chosen.folder), data_root, tolerance)
    print(boundary_table(compared.score, chosen.run.classes))
    print(f"\n{_conditions(compared, chosen.run.table_rules.threshold, tolerance)}")
    for image, reason in compared.left_out.items():
        print(f"left out {image}: {reason}")
    exit_where(bool(compared.left_out))


def _conditions(compared: RunBoundaries, threshold: float | str, tolerance: float) -> str:
    smallest, largest = (f"{pixels:.2f}" for pixels in compared.pixels)
    pixels = smallest if smallest == largest else f"{smallest} to {largest}"
    distance = f"{tolerance:g} % of the diagonal ({pixels} pixels)"
    return f"In percent [95 %], {compared.images} images, within {distance}, masks at threshold {threshold:g}."
