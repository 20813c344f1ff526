"""From character spans to token columns, by the tokenizer's own offsets."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from segscale.prompt import Prompt, Word

Columns = tuple[int, ...]


@dataclass(frozen=True)
class StreamTokens:
    """Token columns of a prompt in one text stream.

    name: the stream (``clip``, ``t5``). offset, length: its columns in a text-to-pixel map.
    classes, background: columns of each word, counted from the map's first column.
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


def _columns(word: Word, offsets: list[tuple[int, int]], special: list[int]) -> tuple[int, ...]:
    return tuple(
        i
        for i, (start, end) in enumerate(offsets)
        if not special[i] and any(start < span_end and span_start < end for span_start, span_end in word.spans)
    )


def stream_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, name: str, length: int, offset: int = 0
) -> StreamTokens:
    """Token columns of every word of ``prompt`` when truncated to ``length`` tokens."""
    whole = tokenizer(prompt.text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    kept = tokenizer(
        prompt.text,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        truncation=True,
        max_length=length,
        padding="max_length",
    )
    special = [int(flag) for flag in kept["special_tokens_mask"]]
    columns = {word: _columns(word, kept["offset_mapping"], special) for word in prompt.classes + prompt.background}
    cut = tuple(
        word.name
        for word in prompt.classes + prompt.background
        if len(_columns(word, whole["offset_mapping"], whole["special_tokens_mask"])) > len(columns[word])
    )
    shifted = {word: tuple(offset + column for column in found) for word, found in columns.items()}
    return StreamTokens(
        name=name,
        offset=offset,
        length=length,
        classes=tuple(shifted[word] for word in prompt.classes),
        background=tuple(shifted[word] for word in prompt.background),
        special=tuple(offset + i for i, flag in enumerate(special) if flag),
        cut=cut,
    )
