"""Prompts from class names or captions, with every word's own character spans."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segscale.errors import UserError
from segscale.prompt import Prompt, Span, Word

ENTITY = re.compile(r"[^,;.()]+")
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
    """Noun phrases of a list-like caption: lower-case text without article, and its span."""
    found: list[tuple[str, Span]] = []
    for match in ENTITY.finditer(caption):
        lead = LEADING.match(match.group())
        start = match.start() + (lead.end() if lead else 0)
        phrase = caption[start : match.end()].rstrip()
        if phrase:
            found.append((phrase.lower(), (start, start + len(phrase))))
    return found


def caption_prompt(caption: str, names: Sequence[str]) -> Prompt:
    """A caption whose phrases are matched to class names, singular or plural.

    Classes that the caption leaves out are appended. Phrases that match none are background words.
    """
    text = caption.strip().rstrip(".")
    spans: dict[str, list[Span]] = {name: [] for name in names}
    background: dict[str, list[Span]] = {}
    for phrase, span in entities(text):
        matched = next((name for name in names if phrase in (name.lower(), f"{name.lower()}s")), None)
        (spans[matched] if matched is not None else background.setdefault(phrase, [])).append(span)
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
