"""Prompts from class names or captions, with every word's own character spans."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segscale.errors import UserError
from segscale.prompt import Prompt, Span, Word

# What parts a caption into phrases: punctuation, and the little words between nouns.
BETWEEN = r"and|or|on|in|at|of|by|with|without|under|over|above|below|behind|beside|near|against|next to|in front of"
SEPARATOR = re.compile(rf"[,;.()]|\b(?:{BETWEEN})\b", re.IGNORECASE)
LEADING = re.compile(r"\s*(?:(?:and|an?|the)\s+)*", re.IGNORECASE)


def class_prompt(names: Sequence[str], background: Sequence[str] = (), separator: str = ", ") -> Prompt:
    """All names, then the background words, joined."""
    if not names:
        raise UserError("there is no class to prompt", "name at least one, as in --classes 'dog, grass'")
    words: list[Word] = []
    text = ""
    for name in (*names, *background):
        text += separator if text else ""
        words.append(Word(name, ((len(text), len(text) + len(name)),)))
        text += name
    return Prompt(text, tuple(words[: len(names)]), tuple(words[len(names) :]))


def entities(caption: str) -> list[tuple[str, Span]]:
    """Noun phrases of a caption: lower-case text without article, and its span."""
    found: list[tuple[str, Span]] = []
    ends = [match.span() for match in SEPARATOR.finditer(caption)]
    starts = [0, *(end for _, end in ends)]
    for first, last in zip(starts, [*(start for start, _ in ends), len(caption)], strict=True):
        lead = LEADING.match(caption, first, last)
        start = lead.end() if lead else first
        phrase = caption[start:last].rstrip()
        if phrase:
            found.append((phrase.lower(), (start, start + len(phrase))))
    return found


def _says(phrase: str, name: str) -> bool:
    return phrase in (name.lower(), f"{name.lower()}s")


def _ends_with(phrase: str, name: str) -> bool:
    return phrase.endswith((f" {name.lower()}", f" {name.lower()}s"))


def caption_prompt(caption: str, names: Sequence[str]) -> Prompt:
    """A caption whose phrases are matched to class names, singular or plural.

    A class that is no phrase of its own is looked for at the end of longer ones ("blue sky"). Classes that the
    caption leaves out are appended. Phrases that match none are background words.
    """
    text = caption.strip().rstrip(".")
    phrases = entities(text)
    spans = {name: [span for phrase, span in phrases if _says(phrase, name)] for name in names}
    taken = {span for found in spans.values() for span in found}
    for name in names:
        if not spans[name]:
            heads = [span for phrase, span in phrases if span not in taken and _ends_with(phrase, name)]
            spans[name] = heads
            taken.update(heads)
    background: dict[str, list[Span]] = {}
    for phrase, span in phrases:
        if span not in taken:
            background.setdefault(phrase, []).append(span)
    for name in names:
        if not spans[name]:
            text += ", " if text else ""
            spans[name].append((len(text), len(text) + len(name)))
            text += name
    return Prompt(
        text,
        tuple(Word(name, tuple(spans[name])) for name in names),
        tuple(Word(phrase, tuple(found)) for phrase, found in background.items()),
    )
