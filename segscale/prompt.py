"""A prompt whose words are known by their character spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
# The class of what is left over, and the word for it.
BACKGROUND = "background"
Location = Literal["span", "first-substring", "counted"]


@dataclass(frozen=True)
class Word:
    """A class or background name and every place where the prompt says it (half-open character spans)."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Prompt:
    """Text given to a backbone, with one word per class and the words of other things.

    classes: words whose pixels are wanted, in the order of the scores; background: competing words.
    location: how words become token columns. ``span``, by their own spans; ``first-substring``, by where their text
    first occurs in the prompt (GoCA's published rule); ``counted``, by counting the tokens that each word has alone,
    one word after the other (Seg4Diff's published rule).
    """

    text: str
    classes: tuple[Word, ...]
    background: tuple[Word, ...] = ()
    location: Location = "span"
