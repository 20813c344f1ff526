"""Prompts from class names or captions, with every word's own character spans."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segscale.errors import UserError
from segscale.prompt import BACKGROUND, Location, Prompt, Span, Word

from .noun_matching import Match, Matcher

# Words between nouns; with punctuation they part a caption into phrases.
BETWEEN = (
    r"and|or|on|in|at|of|by|with|without|under|over|above|below|behind|beside|between|near|against|inside|outside|"
    r"around|along|across|from|next to|in front of"
)
# Words before a noun that say nothing about it.
BEFORE = r"and|an?|the|some|several|many|few|\d+|one|two|three|four|five|six|seven|eight|nine|ten"
LITTLE = re.compile(rf"(?<![\w-])(?:{BETWEEN})(?![\w-])", re.IGNORECASE)
LEADING = re.compile(rf"\s*(?:(?:{BEFORE})\s+)*", re.IGNORECASE)
PUNCTUATION = r"[,;.:!?()]+"
SEGMENT = re.compile(r"\((?P<group>[^()]*)\)|[^()]+")
OUTSIDE = " \t\r\n,;."


def class_prompt(names: Sequence[str], background: Sequence[str] = ()) -> Prompt:
    """All names, then the background words, joined by commas."""
    return _listed(names, background, ", ", "span")


def names_prompt(names: Sequence[str], location: Location = "counted") -> Prompt:
    """Seg4Diff's published prompt: names cut at their first hyphen and joined by one blank."""
    return _listed([name.split("-")[0] for name in names], (), " ", location)


def one_thing_prompt(name: str) -> Prompt:
    """A thing and its article, "a star"."""
    article = "an" if name[:1].lower() in tuple("aeiou") else "a"
    start = len(article) + 1
    return Prompt(f"{article} {name}", (Word(name, ((start, start + len(name)),)),))


def _listed(names: Sequence[str], background: Sequence[str], separator: str, location: Location) -> Prompt:
    if not names:
        raise UserError("there is no class to prompt", "name at least one, as in --classes 'dog, grass'")
    words: list[Word] = []
    text = ""
    for name in (*names, *background):
        text += separator if text else ""
        words.append(Word(name, ((len(text), len(text) + len(name)),)))
        text += name
    return Prompt(text, tuple(words[: len(names)]), tuple(words[len(names) :]), location)


def _segments(caption: str) -> tuple[str, list[Span]]:
    """The caption with commas for parentheses, and the spans of the groups that the innermost ones held."""
    text = ""
    groups: list[Span] = []
    for match in SEGMENT.finditer(caption):
        segment = (match["group"] or match[0]).strip(OUTSIDE + "()")
        if segment:
            text, span = _appended(text, segment)
            if match["group"]:
                groups.append(span)
    return text, groups


def _phrases(text: str, names: Sequence[Sequence[str]]) -> list[Span]:
    """Spans of the noun phrases, without articles and counts. Names such as "chest of drawers" stay whole."""
    kept = {re.escape(name.strip()) for synonyms in names for name in synonyms if LITTLE.search(name)}
    whole = "|".join(sorted(kept, key=len, reverse=True)) or r"(?!)"
    cuts = re.compile(rf"(?P<whole>(?<![\w-])(?:{whole})(?![\w-]))|{PUNCTUATION}|{LITTLE.pattern}", re.IGNORECASE)
    ends = [match.span() for match in cuts.finditer(text) if not match["whole"]]
    starts = [0, *(end for _, end in ends)]
    phrases: list[Span] = []
    for first, last in zip(starts, [*(start for start, _ in ends), len(text)], strict=True):
        lead = LEADING.match(text, first, last)
        start = lead.end() if lead else first
        phrase = text[start:last].rstrip()
        if phrase:
            phrases.append((start, start + len(phrase)))
    return phrases


def _assigned(text: str, phrases: Sequence[Span], groups: Sequence[Span], matcher: Matcher) -> list[int | None]:
    """The class of every phrase.

    A class that is a phrase of its own leaves longer ones that end with its name alone. A member of a group that
    names no class goes with the one before it that does, or with the first.
    """
    matches: list[Match | None] = [matcher(text[start:end]) for start, end in phrases]
    own = {match.index for match in matches if match and match.whole}
    classes = [match.index if match and (match.whole or match.index not in own) else None for match in matches]
    for group in groups:
        members = [i for i, span in enumerate(phrases) if _within(span, group)]
        current = next((classes[i] for i in members if classes[i] is not None), None)
        for i in members:
            current = current if classes[i] is None else classes[i]
            classes[i] = current
    return classes


def _within(span: Span, group: Span) -> bool:
    return group[0] <= span[0] and span[1] <= group[1]


def described_prompt(
    caption: str, names: Sequence[Sequence[str]], present: Sequence[int], add_background: bool, add_missing: bool
) -> tuple[Prompt, tuple[int, ...]]:
    """The prompt that GoCA's paper describes, and the class ids of ``Prompt.classes``.

    Phrases are matched to classes in singular or plural, by synonyms, and by the noun that ends them ("blue sky").
    Members of a parenthesised group that name different classes are words of their own; otherwise the group is one
    word. Phrases of no class are background words. Every word is known by its own spans, and none is lost.

    Args:
        caption: The caption of an image.
        names: Synonyms of every class id.
        present: The classes that take part, in the order of the result.
        add_background: Append the word "background".
        add_missing: Append the classes that the caption does not name; otherwise they are left out.
    """
    text, groups = _segments(caption)
    phrases = _phrases(text, names)
    classes = _assigned(text, phrases, groups, Matcher(names, present))
    spans: dict[int, list[Span]] = {}
    background: dict[str, list[Span]] = {}
    for span, index in zip(phrases, classes, strict=True):
        if index is not None:
            spans.setdefault(index, []).append(span)
        else:
            group = next((group for group in groups if _within(span, group)), span)
            background.setdefault(text[slice(*group)].lower(), []).append(span)
    if add_background and BACKGROUND not in background:
        text, span = _appended(text, BACKGROUND)
        background[BACKGROUND] = [span]
    for index in present if add_missing else ():
        if index not in spans:
            text, span = _appended(text, names[index][0])
            spans[index] = [span]
    named = tuple(index for index in dict.fromkeys(present) if index in spans)
    words = tuple(Word(names[index][0], tuple(spans[index])) for index in named)
    others = tuple(Word(phrase, tuple(phrase_spans)) for phrase, phrase_spans in background.items())
    return Prompt(text, words, others), named


def _appended(text: str, word: str) -> tuple[str, Span]:
    text += ", " if text else ""
    return text + word, (len(text), len(text) + len(word))
