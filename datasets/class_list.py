"""The classes of one's own pictures: ``classes.txt``, or ``classes.csv`` with colours."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageColor

from segscale.errors import UserError
from segscale.prompt import BACKGROUND

from .colours import BLACK, class_colours
from .files import FileError, read_list
from .labels import Colour

NAMES, COLOURED = "classes.txt", "classes.csv"
IGNORED = "ignored"
"""The name of the colour whose pixels do not count."""
ONE_A_LINE = "write the names of the classes into it, one a line"
EXPECTED = "its first line is name,colour or name,red,green,blue, and each other line a class"


@dataclass(frozen=True)
class ClassList:
    """Names in label order, background first, with their colours."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    is_coloured: bool
    """Whether the user chose the colours, so that masks may be written in them."""
    ignored: Colour | None = None
    """In coloured masks."""

    @classmethod
    def of(cls, names: tuple[str, ...]) -> ClassList:
        """The list of these names, background first, in colours that nobody chose."""
        return cls(names, class_colours(len(names)), is_coloured=False)


def read_class_list(folder: Path) -> ClassList:
    """The classes that a folder names. Raises UserError where it names none, twice, or not as it should."""
    named, coloured = folder / NAMES, folder / COLOURED
    if named.exists() and coloured.exists():
        raise UserError(f"{folder} has {NAMES} and {COLOURED}", "remove one of them")
    if coloured.exists():
        return _told_apart(coloured, _coloured(coloured))
    if not named.exists():
        raise UserError(f"there is no {named}", f"{ONE_A_LINE}, or {COLOURED}")
    names = _with_background(_lines(named, ONE_A_LINE))
    if len(names) == 1:
        raise UserError(f"{named} names no class but {BACKGROUND}", ONE_A_LINE)
    return _told_apart(named, ClassList.of(names))


def _told_apart(path: Path, classes: ClassList) -> ClassList:
    """The classes. Raises UserError for a name that stands twice, also but for case."""
    known: dict[str, str] = {}
    for name in classes.names:
        if name.casefold() in known:
            problem = f"{path} names {name!r}, and {known[name.casefold()]!r} is a class already"
            raise UserError(problem, "leave it out, or call it otherwise")
        known[name.casefold()] = name
    return classes


def _lines(path: Path, hint: str) -> tuple[str, ...]:
    try:
        return read_list(path)
    except FileError as error:
        if error.kind != "empty file":
            raise FileError(error.kind, error.problem, "save it as UTF-8 text") from error
        raise UserError(f"{path} names no class", hint) from error


def _with_background(names: Iterable[str]) -> tuple[str, ...]:
    first, *others = names
    return (first, *others) if first == BACKGROUND else (BACKGROUND, first, *others)


def _coloured(path: Path) -> ClassList:
    colours: dict[str, Colour] = {}
    for number, row in enumerate(csv.DictReader(_lines(path, EXPECTED)), 2):
        try:
            name, colour = row["name"].strip(), _colour(row)
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path} has no name and colour in line {number}", EXPECTED) from error
        if name in colours or colour in colours.values():
            raise UserError(f"{path} has {name!r} or its colour twice, again in line {number}", "change one of them")
        colours[name] = colour
    ignored = colours.pop(IGNORED, None)
    if not colours:
        raise UserError(f"{path} names no class", EXPECTED)
    if BACKGROUND not in colours and BLACK in (*colours.values(), ignored):
        raise UserError(f"{path} gives black away and has no line for {BACKGROUND}", f"add one: {BACKGROUND},#ffffff")
    colours = {BACKGROUND: BLACK} | colours if BACKGROUND not in colours else colours
    if next(iter(colours)) != BACKGROUND:
        raise UserError(f"{path} does not begin with {BACKGROUND}", "make it the first class")
    return ClassList(tuple(colours), tuple(colours.values()), is_coloured=True, ignored=ignored)


def _colour(row: Mapping[str, str]) -> Colour:
    if "colour" in row or "color" in row:
        red, green, blue = ImageColor.getrgb((row.get("colour") or row["color"]).strip())[:3]
    else:
        red, green, blue = (int(row[name]) for name in ("red", "green", "blue"))
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError
    return red, green, blue
