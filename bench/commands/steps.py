"""Steps that several commands take."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click
from click.core import ParameterSource

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


def is_given(parameter: str) -> bool:
    """Whether the user named a parameter of the running command."""
    return click.get_current_context().get_parameter_source(parameter) is not ParameterSource.DEFAULT


def refuse_given(parameters: Collection[str], owner: str, hint: str) -> None:
    """Raise UserError for the first of these parameters that the user named, though it is for ``owner``."""
    for parameter in click.get_current_context().command.params:
        if parameter.name in parameters and is_given(parameter.name):
            name = (
                parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name.strip("[]")
            )
            raise UserError(f"{name} is for {owner}", hint)


def print_written(*paths: Path) -> None:
    """Name the files that were written."""
    for path in paths:
        print(f"wrote {path}")


def exit_where(disagrees: bool) -> None:
    """End with the status 1 where something stored is not as it should be; it was named."""
    if disagrees:
        raise click.exceptions.Exit(DISAGREES)
