"""Types of the options' values: they say what is wrong with a value, and complete names in a shell."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from segscale.catalogue import Kind, config_file, config_files
from segscale.places import place


def _number(parse: Callable[[str], float | None], complaint: str) -> Callable[[object], float | None]:
    """The type of values that ``parse`` takes without a ValueError."""

    def number(value: object) -> float | None:
        try:
            return parse(str(value))
        except ValueError as error:
            raise click.BadParameter(f"{str(value)!r} is {complaint}") from error

    return number


def _whole(text: str, lowest: int, highest: int | None = None) -> int:
    if not text.isdecimal() or int(text) < lowest or (highest is not None and int(text) > highest):
        raise ValueError
    return int(text)


def _amount(text: str) -> int | None:
    return None if text == "all" else _whole(text, lowest=0)


def _real(text: str, lowest: float, highest: float) -> float:
    if not lowest <= float(text) <= highest:
        raise ValueError
    return float(text)


def _temperature(text: str) -> float | None:
    return None if text == "none" else _real(text, lowest=0, highest=2)


NATURAL = _number(partial(_whole, lowest=0), "not a number from 0")
POSITIVE = _number(partial(_whole, lowest=1), "not a positive number")
NUMBER = _number(partial(_real, lowest=0, highest=sys.float_info.max), "not a number from 0")
AMOUNT = _number(_amount, "neither all nor a number")
TIMESTEP = _number(partial(_whole, lowest=1, highest=1000), "not a timestep in 1..1000")
THRESHOLD = _number(partial(_real, lowest=-1, highest=1), "not a number from -1 to 1")
WIDTH = _number(partial(_real, lowest=0, highest=math.inf), "neither inf nor a number from 0")
TEMPERATURE = _number(_temperature, "neither none nor a number from 0 to 2")


class Name(click.ParamType):
    """A configured name. Raises UserError with the nearest one, before anything heavy is imported."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind
        self.kind: Kind = kind

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        config_file(self.kind, value)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in config_files(self.kind) if name.startswith(incomplete)]


class Place(click.ParamType):
    """A folder of this machine, or a URL in an object store."""

    name = "folder"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("the folder is empty", param, ctx)
        return place(value) if isinstance(value, str) else value


class FilePath(click.Path):
    """A file or folder of this machine, which need not be there; an empty text names none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Names(click.ParamType):
    """Names separated by commas, at least one, each once; each is converted by ``each``."""

    def __init__(self, noun: str, each: click.ParamType = click.STRING) -> None:
        self.name = f"{noun},..."
        self.noun = noun
        self.each = each

    def convert(
        self, value: str | Iterable[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        names = [part.strip() for part in parts if part.strip()]
        if not names:
            self.fail(f"the {self.noun} list is empty", param, ctx)
        converted = tuple(self.each.convert(name, param, ctx) for name in names)
        if twice := [name for name, count in Counter(converted).items() if count > 1]:
            self.fail(f"{twice[0]!r} is in the {self.noun} list twice", param, ctx)
        return converted

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in self.each.shell_complete(ctx, param, last)]


class Pairs(click.ParamType):
    """``DATASET=VALUE`` separated by commas, as a dictionary."""

    def __init__(self, metavar: str) -> None:
        self.name = metavar
        self.each = Name("dataset")

    def convert(
        self, value: str | dict[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        pairs: dict[str, str] = {}
        for text in value.split(","):
            name, equals, given = text.strip().partition("=")
            if not (name and equals and given):
                self.fail(f"{text!r} is not {self.name}", param, ctx)
            pairs[self.each.convert(name, param, ctx)] = given
        return pairs


def _minutes(text: str) -> int:
    """Of SLURM's ``MINUTES``, ``HH:MM:SS`` and ``D-HH:MM:SS``, rounded up."""
    days, dash, clock = text.rpartition("-")
    parts = [_whole(part, lowest=0) for part in clock.split(":")]
    if len(parts) == 1 and not dash:
        return max(parts[0], 1)
    if len(parts) != 3 or (dash and not days.isdecimal()):
        raise ValueError
    hours, minutes, seconds = parts
    return (24 * int(days or 0) + hours) * 60 + minutes + -(-seconds // 60)


MINUTES = _number(_minutes, "neither minutes nor a time such as 4:00:00 or 1-12:00:00")
