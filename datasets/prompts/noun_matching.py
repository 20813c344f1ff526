"""Finds the class that a noun phrase names: synonyms, singular and plural, words run together, head nouns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

IRREGULAR = {"man": "men", "person": "people", "child": "children", "mouse": "mice", "goose": "geese", "foot": "feet"}
BLANKS = re.compile(r"[\s-]+")
WORD = re.compile(r"\S+")
SIBILANT_OR_O = re.compile(r"(?:s|x|z|ch|sh|o)$")
CONSONANT_Y = re.compile(r"[^aeiou]y$")


def _joined(text: str) -> str:
    return BLANKS.sub("", text.lower())


def _plurals(noun: str) -> Iterator[str]:
    """Possible plurals of ``noun``; forms that do not exist match nothing."""
    yield f"{noun}s"
    if SIBILANT_OR_O.search(noun):
        yield f"{noun}es"
    if CONSONANT_Y.search(noun):
        yield f"{noun[:-1]}ies"
    for ending in ("fe", "f"):
        if noun.endswith(ending):
            yield f"{noun.removesuffix(ending)}ves"
    for singular, plural in IRREGULAR.items():
        if noun.endswith(singular):
            yield noun.removesuffix(singular) + plural


@dataclass(frozen=True)
class Match:
    """The class of a phrase."""

    index: int
    whole: bool
    """True where the phrase is a name of the class, False where a longer phrase ends with one."""


class Matcher:
    """Finds the class of a phrase; only classes in ``present`` are found.

    The longest end of the phrase that names a class decides, so "hot dog" is no dog where it is a class itself. Of
    several classes with the name the first that is present counts, and a name as it is written comes before its plural
    or singular.
    """

    def __init__(self, names: Sequence[Sequence[str]], present: Sequence[int]) -> None:
        """``names`` are the synonyms of every class id."""
        self._present = frozenset(present)
        self._written: dict[str, list[int]] = {}
        self._joined: dict[str, list[int]] = {}
        self._plural: dict[str, list[int]] = {}
        for index, synonyms in enumerate(names):
            for name in synonyms:
                written = name.strip().lower()
                self._written.setdefault(written, []).append(index)
                self._joined.setdefault(_joined(written), []).append(index)
                for plural in _plurals(_joined(written)):
                    self._plural.setdefault(plural, []).append(index)

    def __call__(self, phrase: str) -> Match | None:
        """The class of ``phrase``, None where it names none that is present."""
        text = phrase.strip().lower()
        for word in WORD.finditer(text):
            candidates = self._named(text[word.start() :])
            if candidates:
                index = next((i for i in candidates if i in self._present), None)
                return None if index is None else Match(index, word.start() == 0)
        return None

    def _named(self, noun: str) -> list[int]:
        joined = _joined(noun)
        singular_of = [i for plural in _plurals(joined) for i in self._joined.get(plural, [])]
        return [
            *self._written.get(noun, []),
            *self._joined.get(joined, []),
            *self._plural.get(joined, []),
            *singular_of,
        ]
