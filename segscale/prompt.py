"""A prompt whose words are known by their character spans."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True)
class Word:
    """A class or background name and every place where the prompt says it (half-open character spans)."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Prompt:
    """Text given to a backbone, with one word per class and the words of other things.

    classes: words whose pixels are wanted, in the order of the scores; background: competing words.
    """

    text: str
    classes: tuple[Word, ...]
    background: tuple[Word, ...] = ()
