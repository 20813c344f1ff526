"""Writes the reference of the command line, docs/cli.md: ``python -m segscale.bench.commands.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc

import click

from .command import Command, Group
from .main import program

INTRODUCTION = """# Command line

This page is made from the commands (`make docs-cli`); `segscale COMMAND --help` prints the same.

A mistake ends in one line on standard error and exit status 2. Where a stored run cannot be read, it is named, tables
show the others, and the exit status is 1. Names of backbones, methods, datasets and protocols are those of
`segscale list`; where several are allowed, commas separate them.

Shells complete commands, options and names. Bash needs this line in `~/.bashrc`; for zsh it is `zsh_source` in
`~/.zshrc`:

    eval "$(_SEGSCALE_COMPLETE=bash_source segscale)"

fish needs this line in `~/.config/fish/completions/segscale.fish`:

    _SEGSCALE_COMPLETE=fish_source segscale | source
"""


def reference() -> str:
    """The page as Markdown."""
    context = click.Context(program, info_name="segscale", **program.context_settings)
    return "\n".join([INTRODUCTION, *_sections(program, context)])


def _sections(group: Group, context: click.Context) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = click.Context(command, parent=context, info_name=name)
        if isinstance(command, Group):
            yield from _sections(command, inner)
        elif isinstance(command, Command):
            yield from _section(command, inner)


def _section(command: Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    described = cleandoc(command.help or "")
    yield f"## {context.command_path}\n\n{described}\n\n    {usage}\n"
    for heading, records in command.options_by_heading(context).items():
        yield f"{heading}:\n"
        yield "\n".join(f"- `{option}` {text}".rstrip() for option, text in records) + "\n"
    yield "Examples:\n\n" + "\n".join(f"    {example}" for example in command.examples) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
