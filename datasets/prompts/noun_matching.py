"""Finds the class that a noun phrase names: synonyms, singular and plural, words run together, head nouns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

WORDS, VOCABULARIES = 4096, 16
"""Whose forms are remembered: all names of a dataset are asked for with every caption."""
IRREGULAR = {"man": "men", "person": "people", "child": "children", "mouse": "mice", "goose": "geese", "foot": "feet"}
BLANKS = re.compile(r"[\s-]+")
WORD = re.compile(r"\S+")
SIBILANT_OR_O = re.compile(r"(?:s|x|z|ch|sh|o)$")
CONSONANT_Y = re.compile(r"[^aeiou]y$")


@lru_cache(maxsize=WORDS)
def _joined(text: str) -> str:
    return BLANKS.sub("", text.lower())


@lru_cache(maxsize=WORDS)
def _plurals(noun: str) -> tuple[str, ...]:
    """Possible plurals of ``noun``; forms that do not exist match nothing."""
    return tuple(_possible_plurals(noun))


def _possible_plurals(noun: str) -> Iterator[str]:
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


@dataclass(frozen=True)
class _ClassesByForm:
    """Ids of the classes that a form of a name may mean, in their order."""

    written: dict[str, list[int]] = field(default_factory=dict)
    """As it is written, in lower case."""
    joined: dict[str, list[int]] = field(default_factory=dict)
    """Without blanks and hyphens."""
    plural: dict[str, list[int]] = field(default_factory=dict)
    """Of the joined form."""


@lru_cache(maxsize=VOCABULARIES)
def _classes_by_form(names: tuple[tuple[str, ...], ...]) -> _ClassesByForm:
    classes = _ClassesByForm()
    for index, synonyms in enumerate(names):
        for name in synonyms:
            written = name.strip().lower()
            classes.written.setdefault(written, []).append(index)
            classes.joined.setdefault(_joined(written), []).append(index)
            for plural in _plurals(_joined(written)):
                classes.plural.setdefault(plural, []).append(index)
    return classes


class Matcher:
    """Finds the class of a phrase; only classes in ``present`` are found.

    The longest end of the phrase that names a class decides, so "hot dog" is no dog where it is a class itself. Of
    several classes with the name the first that is present counts, and a name as it is written comes before its plural
    or singular.
    """

    def __init__(self, names: Sequence[Sequence[str]], present: Sequence[int]) -> None:
        """``names`` are the synonyms of every class id."""
        self._present = frozenset(present)
        self._classes = _classes_by_form(tuple(map(tuple, names)))

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
        joined, classes = _joined(noun), self._classes
        singular_of = [i for plural in _plurals(joined) for i in classes.joined.get(plural, [])]
        return [
            *classes.written.get(noun, []),
            *classes.joined.get(joined, []),
            *classes.plural.get(joined, []),
            *singular_of,
        ]
