"""From the words of a prompt to token columns of a text stream."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from segscale.prompt import Prompt

from .word_columns import Columns, encode, word_columns


@dataclass(frozen=True)
class StreamTokens:
    """Token columns of a prompt in one text stream.

    name: the stream (``clip``, ``t5``). offset, length: its columns in a text-to-pixel map.
    classes, background: columns of each word, counted from the map's first column; a word may have none.
    special: columns of start, end and padding tokens. cut: names of words that lost tokens to truncation.
    rescaling: columns whose sum is a pixel's total in GoCA, None for those of all words.
    """

    name: str
    offset: int
    length: int
    classes: tuple[Columns, ...]
    background: tuple[Columns, ...]
    special: Columns
    cut: tuple[str, ...]
    rescaling: Columns | None = None


def stream_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, name: str, length: int, offset: int = 0
) -> StreamTokens:
    """Token columns of every word of ``prompt`` when truncated to ``length`` tokens."""
    special = encode(tokenizer, prompt.text, length).special
    whole = word_columns(tokenizer, prompt, encode(tokenizer, prompt.text))
    # Counted words keep the end token of a truncated prompt, as published.
    taken = () if prompt.location == "counted" else [i for i, flag in enumerate(special) if flag]
    kept = [tuple(column for column in columns if column < length and column not in taken) for columns in whole]
    words = prompt.classes + prompt.background
    shifted = [tuple(offset + column for column in columns) for columns in kept]
    return StreamTokens(
        name=name,
        offset=offset,
        length=length,
        classes=tuple(shifted[: len(prompt.classes)]),
        background=tuple(shifted[len(prompt.classes) :]),
        special=tuple(offset + i for i, flag in enumerate(special) if flag),
        cut=tuple(word.name for word, all_, left in zip(words, whole, kept, strict=True) if len(left) < len(all_)),
    )
