"""From the words of a prompt to token columns of a text stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from segscale.prompt import Prompt

from .word_columns import Columns, encode, word_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamTokens:
    """Token columns of a prompt in one text stream, counted from the first column of a text-to-pixel map."""

    name: str
    """The stream: ``clip`` or ``t5``."""
    offset: int
    """Its first column."""
    length: int
    """How many columns it has."""
    classes: tuple[Columns, ...]
    """Columns of each class; a class may have none."""
    background: tuple[Columns, ...]
    """Columns of each background word."""
    special: Columns
    """Columns of start, end and padding tokens."""
    cut: tuple[str, ...]
    """Names of words that lost tokens to truncation."""

    @property
    def words(self) -> Columns:
        """Columns of all tokens but start, end and padding."""
        return tuple(column for column in range(self.offset, self.offset + self.length) if column not in self.special)


def stream_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, name: str, length: int, offset: int = 0
) -> StreamTokens:
    """Find the token columns of every word of ``prompt`` when it is truncated to ``length`` tokens."""
    special = encode(tokenizer, prompt.text, length).special
    whole = word_columns(tokenizer, prompt, encode(tokenizer, prompt.text))
    # Counted words keep the end token of a truncated prompt, as published.
    taken = () if prompt.location == "counted" else [i for i, flag in enumerate(special) if flag]
    kept = [tuple(column for column in columns if column < length and column not in taken) for columns in whole]
    shifted = [tuple(offset + column for column in columns) for columns in kept]
    return StreamTokens(
        name=name,
        offset=offset,
        length=length,
        classes=tuple(shifted[: len(prompt.classes)]),
        background=tuple(shifted[len(prompt.classes) :]),
        special=tuple(offset + i for i, flag in enumerate(special) if flag),
        cut=tuple(
            word.name for word, all_, left in zip(prompt.words, whole, kept, strict=True) if len(left) < len(all_)
        ),
    )


def token_columns(streams: tuple[StreamTokens, ...]) -> Columns:
    """Columns of all tokens of the streams, start, end and padding included."""
    return tuple(column for stream in streams for column in range(stream.offset, stream.offset + stream.length))


def report_truncation(streams: tuple[StreamTokens, ...]) -> None:
    """Log the words that every stream has cut."""
    if cut := [name for name in streams[0].cut if all(name in stream.cut for stream in streams)]:
        log.warning("the prompt was cut at %d tokens, within or before: %s", streams[0].length, ", ".join(cut))


def warn_of_other_tokens(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase, text: str) -> None:
    """Log a text that two encoders whose columns should coincide cut into other tokens.

    One whose padding is "!" reads "!!" as two tokens, which is one of the other's.
    """
    if first is not second and encode(first, text).offsets != encode(second, text).offsets:
        log.warning("the text encoders read other tokens of %r, so words are found in the first alone", text)
