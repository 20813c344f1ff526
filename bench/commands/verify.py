"""The command that compares stored runs with the data and weights on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from segscale.errors import StoreError

from . import options
from .command import command
from .steps import exit_where, quiet_libraries

if TYPE_CHECKING:
    from ..runs.store import RunStore
    from ..runs.verify import Verification, Verifier

NOT_COMPARED = 3
"""Exit status where all that was compared agrees, and not all was."""
Outcome = Literal["agrees", "disagrees", "not compared"]


@command(examples=["segscale verify", "segscale verify results/runs/pocket-sd15"])
@click.argument("names", metavar="[RUN]...", nargs=-1)
@options.results
@options.data_root
def verify(names: tuple[str, ...], results: Path, data_root: str | None) -> None:
    """Tell which stored images no longer agree with the data on disk, and whether weights do.

    RUN is the beginning of a run's id, or a folder with runs; without it, all are verified. The exit status is 1 where
    something disagrees, and 3 where nothing does and something is not on this machine, so that it was not compared.
    """
    from ..runs.verify import Verifier, named_runs

    quiet_libraries()
    verifier = Verifier(data_root)
    outcomes = {_verify(store, verifier) for store in named_runs(results, names)}
    exit_where("disagrees" in outcomes)
    if "not compared" in outcomes:
        raise click.exceptions.Exit(NOT_COMPARED)


def _verify(store: RunStore, verifier: Verifier) -> Outcome:
    """Verify one run and print what it showed."""
    try:
        verification = verifier.verify(store)
    except StoreError as error:
        print(f"{store.folder}: {error}")
        return "disagrees"
    print(f"{store.folder}: {_summary(verification)}")
    for line in verification.problems:
        print(f"  {line}")
    for image, change in verification.changes.items():
        print(f"  {image}: {change}")
    if not verification.agrees:
        return "disagrees"
    return "not compared" if verification.not_compared else "agrees"


def _summary(verification: Verification) -> str:
    agreeing = verification.compared - len(verification.changes)
    without = "".join(f", not compared: {what}" for what in verification.not_compared)
    return f"{agreeing} of {verification.images} images agree{without}"
