"""Commands whose help has headings and examples, in groups that suggest the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from segscale.errors import UserError


class Option(click.Option):
    """An option under a heading of its command's help."""

    def __init__(self, *declarations: Any, heading: str, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.heading = heading


class Command(click.Command):
    """A command with examples. ``resumes``: typed again, it goes on where it was interrupted."""

    def __init__(self, *arguments: Any, examples: Sequence[str], resumes: bool = False, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = examples
        self.resumes = resumes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            # click's parser leaves it out where a value is missing.
            error.ctx = error.ctx or ctx
            raise

    def options_by_heading(self, context: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Declaration and explanation of every option."""
        records: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in self.get_params(context):
            if isinstance(option, click.Option) and (record := option.get_help_record(context)):
                records.setdefault(getattr(option, "heading", "Options"), []).append(record)
        return records

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, records in self.options_by_heading(ctx).items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            # Unbroken, so that they can be copied.
            formatter.write("".join(f"  {example}\n" for example in self.examples))


class Group(Command, click.Group):
    """Commands in the order in which they were added."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of this name. Raises UserError with the nearest one."""
        if cmd_name not in self.commands:
            raise unknown("command", cmd_name, difflib.get_close_matches(cmd_name, self.commands), ctx)
        return self.commands[cmd_name]


def unknown(kind: str, name: str, nearest: Sequence[str] | None, context: click.Context | None) -> UserError:
    """An error that suggests the nearest name, and where help is."""
    suggestion = f"did you mean {nearest[0]}? " if nearest else ""
    return UserError(f"there is no {kind} {name!r}", suggestion + help_hint(context))


def help_hint(context: click.Context | None) -> str:
    """Names the help of the very command."""
    return f"see: {context.command_path if context else 'segscale'} --help"


command = partial(click.command, cls=Command)
