"""The prompt that GoCA's published code makes of a caption; ``described`` has the one that its paper describes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segscale.prompt import BACKGROUND, Prompt, Span, Word

PIECE = re.compile(r"\([^)]*\)|[^,]+")
PARENTHESES = str.maketrans("", "", "()")


@dataclass(frozen=True)
class _Entity:
    """A phrase or a parenthesised group."""

    raw: str
    """The phrase with the parentheses that it still has."""
    classes: tuple[int, ...] = ()
    """The classes of its members, in their order."""

    @property
    def text(self) -> str:
        """The phrase without parentheses."""
        return self.raw.translate(PARENTHESES)


def _pieces(caption: str) -> list[str]:
    """Phrases and parenthesised groups.

    As published, a group that is not the first phrase and has no comma opens a buffer that swallows what follows, and
    an unfinished buffer is lost.
    """
    pieces: list[str] = []
    buffer = ""
    for piece in PIECE.findall(caption):
        phrase = piece.strip()
        if piece.startswith("(") and piece.endswith(")"):
            pieces.append(piece)
        elif "(" in piece:
            buffer = phrase
        elif ")" in piece:
            pieces.append(f"{buffer}, {phrase}")
            buffer = ""
        elif buffer:
            buffer += f", {phrase}"
        else:
            pieces.append(phrase)
    return list(dict.fromkeys(pieces))


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

    Its quirks are kept: a later group without comma loses phrases, unmatched members of a group with two classes are
    dropped, and names are matched letter by letter, so that "potted plant" is not ``pottedplant``. Words are known by
    their own spans, and found by ``first-substring``. A phrase without text has no word.

    Args:
        caption: The caption of an image.
        names: Synonyms of every class id, ``class_names("goca", dataset_name)``.
        present: The classes that take part.
        add_background: Append the word "background".
        add_missing: Append the classes that the caption does not name; otherwise they are left out.
    """
    class_of: dict[str, int] = {}
    for index in sorted(set(present)):
        for name in names[index]:
            class_of.setdefault(name, index)
    text = caption.removesuffix(".") + (f", {BACKGROUND}" if add_background else "")
    entities = list(dict.fromkeys(entity for raw in _pieces(text.lower()) for entity in _entities(raw, class_of)))
    if add_missing:
        named = {entity.classes[0] for entity in entities if entity.classes}
        # The published order: that of a Python set of small integers, which is not always ascending.
        entities += [_Entity(names[index][0], (index,)) for index in set(present) - named]
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
    classes = tuple(Word(names[index][0], tuple(class_spans)) for index, class_spans in spans.items())
    return Prompt(text, classes, tuple(background), "first-substring"), tuple(spans)
