"""A prompt knows the character spans of its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
# The class of pixels that no other class names, and its word.
BACKGROUND = "background"
Location = Literal["span", "first-substring", "counted", "token-id"]


@dataclass(frozen=True)
class Word:
    """The name of a class or of something else, with every place where the prompt says it."""

    name: str
    spans: tuple[Span, ...]
    """Half-open character spans."""


@dataclass(frozen=True)
class Prompt:
    """Text for a backbone, with one word per class and the words of other things."""

    text: str
    classes: tuple[Word, ...]
    """Words that are segmented, in the order of the scores."""
    background: tuple[Word, ...] = ()
    """Words that compete with them."""
    location: Location = "span"
    """How words become token columns.

    ``span`` takes their own spans. ``first-substring`` takes the place where their text first occurs in the prompt,
    which is GoCA's published rule. ``counted`` counts the tokens that each word has alone, one word after the other,
    which is Seg4Diff's published rule. ``token-id`` takes every token that the word has, wherever it stands, which is
    the rule of Seg4Diff's published training.
    """

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of classes, then those of other things."""
        return self.classes + self.background
