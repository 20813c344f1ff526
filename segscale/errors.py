"""The errors a user is meant to see: one line each, whose classes a program can catch."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parent), "<frozen")


class UserError(Exception):
    """A user's mistake or a missing thing.

    Shown as a single line ``problem; hint``, without traceback, exit status 2.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        """Say what is wrong and where, and the next command or thing to try."""
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class UnknownNameError(UserError):
    """No config has this name."""


class StoreError(UserError):
    """A stored run that cannot be read; others may still be."""


class OtherFormatError(StoreError):
    """A stored run that another version made."""


class EmptyRunError(StoreError):
    """A stored run that holds no image yet."""


class ConfigError(UserError):
    """A config cannot be read, or it does not fit the class that it configures."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the known name nearest to ``name``, where one is near, and all of them."""
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"{f'did you mean {nearest[0]}? ' if nearest else ''}there are: {', '.join(names)}"


def exception_line(error: BaseException) -> str:
    """What was raised in one line, with the innermost place that is not in a library."""
    message = str(error).partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    places = [f" ({Path(file).name}, line {line})" for file, line, *_ in frames if not file.startswith(LIBRARIES)]
    return f"{type(error).__name__}: {message}{places[-1] if places else ''}"
