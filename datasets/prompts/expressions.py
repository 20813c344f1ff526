"""Prompts from referring expressions: "the left star", "woman in a red coat"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segscale.prompt import Prompt, Span, Word

from .described import BETWEEN, LEADING

# What follows the first noun phrase says which one is meant.
AFTER = rf"{BETWEEN}|to|that|which|who|whose|is|are|has|wearing|holding|facing|looking|standing|sitting|closest|nearest"
PHRASE_END = re.compile(rf"[,;.:!?()]|(?<![\w-])(?:{AFTER})(?![\w-])", re.IGNORECASE)
WORD = re.compile(r"[\w'-]+")


def head_noun(expression: str) -> Span:
    """Where the head noun stands: the last word of the first noun phrase, by a rule and not by a parser.

    An expression that names no thing before a relation ("on the left") gives its last word.
    """
    lead = LEADING.match(expression)
    start = lead.end() if lead else 0
    end = PHRASE_END.search(expression, start)
    words = [*WORD.finditer(expression, start, end.start() if end else len(expression))]
    words = words or [*WORD.finditer(expression)]
    return words[-1].span() if words else (0, len(expression))


def expression_prompt(expression: str, head_alone: bool, background: Sequence[str]) -> Prompt:
    """The expression and then the background words, joined by commas.

    Args:
        expression: What is prompted, whole.
        head_alone: Whether the target's word is the head noun, instead of all words.
        background: Words that compete.
    """
    span = head_noun(expression) if head_alone else (0, len(expression))
    text, others = expression, list[Word]()
    for name in background:
        start = len(text) + 2
        text = f"{text}, {name}"
        others.append(Word(name, ((start, len(text)),)))
    return Prompt(text, (Word(expression[slice(*span)], (span,)),), tuple(others))
