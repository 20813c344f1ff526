"""Steps that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

from segscale.errors import UserError

from ..runs.launcher import rank_and_world

DISAGREES = 1
"""Exit status where a command did its work and something stored is not as it should be."""


def quiet_libraries() -> None:
    """Keep the libraries' loading messages out of the way of ours."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def refuse_ranks(name: str) -> None:
    """Raise UserError under a launcher of several processes, for an analysis that one process makes."""
    if rank_and_world()[1] > 1:
        raise UserError(f"several processes do not share the work of segscale {name}", "start one without a launcher")


def print_written(*paths: Path) -> None:
    """Name the files that were written."""
    for path in paths:
        print(f"wrote {path}")


def exit_where(disagrees: bool) -> None:
    """End with the status 1 where something stored is not as it should be; it was named."""
    if disagrees:
        raise click.exceptions.Exit(DISAGREES)
