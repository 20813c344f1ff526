"""Types of the options' values: they say what is wrong with a value, and complete names in a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from segscale.catalogue import Kind, config_file, config_files


class Number(click.ParamType):
    """A number that ``parse`` accepts, or else its error is a ValueError."""

    name = "number"

    def __init__(self, parse: Callable[[str], float | None], complaint: str) -> None:
        self.parse = parse
        self.complaint = complaint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        try:
            return self.parse(str(value))
        except ValueError:
            self.fail(f"{str(value)!r} is {self.complaint}", param, ctx)


def whole(lowest: int, highest: int | None, complaint: str) -> Number:
    """A whole number in a range, written in digits alone."""

    def parse(text: str) -> int:
        number = int(text) if text.isdecimal() else -1
        if number < lowest or (highest is not None and number > highest):
            raise ValueError
        return number

    return Number(parse, complaint)


def _temperature(text: str) -> float | None:
    if text == "none":
        return None
    if not 0 <= float(text) <= 2:
        raise ValueError
    return float(text)


NATURAL = whole(0, None, "not a number from 0")
POSITIVE = whole(1, None, "not a positive number")
TIMESTEP = whole(1, 1000, "not a timestep in 1..1000")
TEMPERATURE = Number(_temperature, "neither none nor a number from 0 to 2")


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


class Names(click.ParamType):
    """Names separated by commas, at least one; each is converted by ``each``."""

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
        return tuple(self.each.convert(name, param, ctx) for name in names)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in self.each.shell_complete(ctx, param, last)]
