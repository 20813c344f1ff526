"""Which tokens a word consists of: by its span, or by the rules of published codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from segscale.prompt import Location, Prompt, Span, Word

Columns = tuple[int, ...]

WORD_END = "</w>"
WORD_MARK = "\u2581"
# Tokens that GoCA's published code gives to no word.
STOP_TOKENS = frozenset({"a", "an", "the", "and", ",", ".", "-"})


@dataclass(frozen=True)
class Encoding:
    """Tokens of one text."""

    tokens: tuple[str, ...]
    """Strings of the vocabulary."""
    offsets: tuple[Span, ...]
    """Their characters in the text."""
    special: tuple[bool, ...]
    """Which are start, end or padding."""


def encode(tokenizer: PreTrainedTokenizerBase, text: str, length: int | None = None) -> Encoding:
    """Turn a text into tokens, truncated and padded to ``length`` where it is given."""
    fit: dict[str, Any] = {"verbose": False}
    if length is not None:
        fit = {"truncation": True, "max_length": length, "padding": "max_length"}
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, **fit)
    return Encoding(
        tokens=tuple(tokenizer.convert_ids_to_tokens(encoded["input_ids"])),
        offsets=tuple(encoded["offset_mapping"]),
        special=tuple(map(bool, encoded["special_tokens_mask"])),
    )


def _by_span(_tokenizer: PreTrainedTokenizerBase, prompt: Prompt, encoding: Encoding) -> list[Columns]:
    """Tokens whose characters overlap the word's."""
    return [
        tuple(
            i
            for i, (start, end) in enumerate(encoding.offsets)
            if not encoding.special[i] and any(start < last and first < end for first, last in word.spans)
        )
        for word in prompt.words
    ]


def first_occurrences(prompt: Prompt) -> list[tuple[Word, Span]]:
    """Return every place of every word in the prompt's order, moved to where the prompt first has the same text."""
    places = sorted(((span, word) for word in prompt.words for span in word.spans), key=lambda place: place[0])
    firsts = ((word, prompt.text.find(prompt.text[start:end]), end - start) for (start, end), word in places)
    return [(word, (first, first + length)) for word, first, length in firsts]


def token_ranges(text: str, encoding: Encoding) -> list[Span | None]:
    """Find the characters of every token as GoCA's published code does; None for special tokens and bare word marks.

    A token is searched for from the end of the one before. One that does not occur (letters outside ASCII in CLIP's
    vocabulary) is taken to start one character before that end.
    """
    ranges: list[Span | None] = []
    index = 0
    for token, special in zip(encoding.tokens, encoding.special, strict=True):
        letters = _plain(token)
        if special or not letters:
            ranges.append(None)
            continue
        start = index + text[index:].find(letters)
        index = start + len(letters)
        ranges.append((start, index))
    return ranges


def _plain(token: str) -> str:
    return token.removesuffix(WORD_END).removeprefix(WORD_MARK)


def _by_first_substring(_tokenizer: PreTrainedTokenizerBase, prompt: Prompt, encoding: Encoding) -> list[Columns]:
    """Tokens that lie within a word's first occurrence and within that of no earlier word."""
    places = first_occurrences(prompt)
    columns: dict[Word, list[int]] = {word: [] for word in prompt.words}
    for i, characters in enumerate(token_ranges(prompt.text, encoding)):
        if characters is None or _plain(encoding.tokens[i]) in STOP_TOKENS:
            continue
        start, end = characters
        owner = next((word for word, (first, last) in places if first <= start and end <= last), None)
        if owner is not None:
            columns[owner].append(i)
    return [tuple(columns[word]) for word in prompt.words]


def _by_count(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, encoding: Encoding) -> list[Columns]:
    """As many tokens as each word has alone, without gap from the first that is no start token."""
    column = next((i for i, special in enumerate(encoding.special) if not special), 0)
    columns: list[Columns] = []
    for word in prompt.words:
        alone = [encode(tokenizer, prompt.text[start:end]) for start, end in word.spans]
        count = sum(encoded.special.count(False) for encoded in alone)
        columns.append(tuple(range(column, column + count)))
        column += count
    return columns


def _by_token_id(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, encoding: Encoding) -> list[Columns]:
    """Every token of the prompt that the word has, too, also within another word."""
    columns: list[Columns] = []
    for word in prompt.words:
        alone = [encode(tokenizer, prompt.text[start:end]) for start, end in word.spans]
        own = {
            token
            for encoded in alone
            for token, special in zip(encoded.tokens, encoded.special, strict=True)
            if not special
        }
        columns.append(tuple(i for i, token in enumerate(encoding.tokens) if token in own and not encoding.special[i]))
    return columns


LOCATE: dict[Location, Callable[[PreTrainedTokenizerBase, Prompt, Encoding], list[Columns]]] = {
    "span": _by_span,
    "first-substring": _by_first_substring,
    "counted": _by_count,
    "token-id": _by_token_id,
}


def word_columns(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, encoding: Encoding) -> list[Columns]:
    """Find the tokens of every class, then of every background word, by the prompt's rule.

    The encoding is the whole prompt's, not truncated; a counted word may reach past its end.
    """
    return LOCATE[prompt.location](tokenizer, prompt, encoding)
