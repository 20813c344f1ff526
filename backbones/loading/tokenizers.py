"""Tokenizers made of a list of words, with no download: one token per word, other words fall apart into letters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from transformers import CLIPTokenizer, T5Tokenizer

SYMBOLS = string.ascii_lowercase + string.digits + ",.'-!"
WORD_END = "</w>"


def clip_tokenizer(length: int, words: Sequence[str] = ()) -> CLIPTokenizer:
    """Build CLIP's byte-pair tokenizer over ``words``, padding and cutting to ``length`` tokens."""
    merges: Any = _word_merges(words)
    symbols = [*SYMBOLS, *(symbol + WORD_END for symbol in SYMBOLS)]
    pieces = dict.fromkeys([*symbols, *(left + right for left, right in merges), "<|startoftext|>", "<|endoftext|>"])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def t5_tokenizer(length: int, words: Sequence[str] = ()) -> T5Tokenizer:
    """Build T5's unigram tokenizer over ``words``, padding and cutting to ``length`` tokens."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(symbol, -8.0) for symbol in ("▁", *SYMBOLS)]
    pieces = [(f"▁{word}", -4.0) for word in words if len(word) > 1]
    return T5Tokenizer(vocab=[*special, *letters, ("▁a", -4.0), *pieces], extra_ids=0, model_max_length=length)


def _word_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """BPE merges that spell every word left to right."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        pieces = [*word[:-1], word[-1] + WORD_END]
        prefix = pieces[0]
        for piece in pieces[1:]:
            merges[prefix, piece] = None
            prefix += piece
    return list(merges)
