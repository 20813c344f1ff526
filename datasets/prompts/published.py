"""Captions as GoCA publishes them: files of captions, and the rule that makes prompts of them.

The described reading of the same captions is ``prompts.described_prompt``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segscale.prompt import BACKGROUND, Prompt, Span, Word

PIECE = re.compile(r"\([^)]*\)|[^,]+")
PARENTHESES = str.maketrans("", "", "()")


@dataclass(frozen=True)
class _Entity:
    """A phrase with the parentheses it still has; text: without them; classes: of its members, in their order."""

    raw: str
    classes: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        return self.raw.translate(PARENTHESES)


def _pieces(caption: str) -> list[str]:
    """Phrases and parenthesised groups.

    As published, a group that is not the first phrase and has no comma opens a buffer that swallows what follows, and
    an unfinished buffer is lost.
    """
    found: list[str] = []
    buffer = ""
    for piece in PIECE.findall(caption):
        said = piece.strip()
        if piece.startswith("(") and piece.endswith(")"):
            found.append(piece)
        elif "(" in piece:
            buffer = said
        elif ")" in piece:
            found.append(f"{buffer}, {said}")
            buffer = ""
        elif buffer:
            buffer += f", {said}"
        else:
            found.append(said)
    return list(dict.fromkeys(found))


def _entities(raw: str, class_of: dict[str, int]) -> list[_Entity]:
    """The phrase; of a group with several classes only the members that name one, each by itself."""
    is_group = "(" in raw
    members = raw.translate(PARENTHESES).split(", ") if is_group else [raw]
    matching = [_Entity(member, (class_of[member],)) for member in members if member in class_of]
    if is_group and len(matching) > 1:
        return matching
    return [_Entity(raw, tuple(c for member in matching for c in member.classes))]


def published_prompt(
    caption: str, names: Sequence[Sequence[str]], present: Sequence[int], add_background: bool, add_missing: bool
) -> tuple[Prompt, tuple[int, ...]]:
    """The prompt that GoCA's published code makes of a caption, and the class ids of ``Prompt.classes``.

    names: of every class id, ``class_names("goca", dataset)``. present: the classes that take part; those named
    nowhere are left out unless ``add_missing``. add_background: append the word "background".

    Its quirks are kept: a later group without comma loses phrases, unmatched members of a group with two classes are
    dropped, and names are matched letter by letter, so that "potted plant" is not ``pottedplant``. Words are known by
    their own spans, and found by ``first-substring``. A phrase without text has no word.
    """
    class_of: dict[str, int] = {}
    for index in sorted(set(present)):
        for name in names[index]:
            class_of.setdefault(name, index)
    text = caption.removesuffix(".") + (f", {BACKGROUND}" if add_background else "")
    entities = list(dict.fromkeys(entity for raw in _pieces(text.lower()) for entity in _entities(raw, class_of)))
    if add_missing:
        said = {entity.classes[0] for entity in entities if entity.classes}
        # The published order: that of a Python set of small integers, which is not always ascending.
        entities += [_Entity(names[index][0], (index,)) for index in set(present) - said]
    return _joined(entities, names)


def _joined(entities: Sequence[_Entity], names: Sequence[Sequence[str]]) -> tuple[Prompt, tuple[int, ...]]:
    text = ""
    spans: dict[int, list[Span]] = {}
    background: list[Word] = []
    for number, entity in enumerate(entities):
        text += ", " if number else ""
        span = (len(text), len(text) + len(entity.text))
        text += entity.text
        if entity.classes:
            spans.setdefault(entity.classes[0], []).append(span)
        elif entity.text:
            background.append(Word(entity.text, (span,)))
    classes = tuple(Word(names[index][0], tuple(found)) for index, found in spans.items())
    return Prompt(text, classes, tuple(background), "first-substring"), tuple(spans)
