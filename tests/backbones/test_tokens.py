from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from segscale.backbones.pocket.text import clip_tokenizer, t5_tokenizer
from segscale.backbones.text.tokens import stream_tokens
from segscale.datasets.pocket import GROUNDS, OBJECTS
from segscale.datasets.prompts.described import class_prompt
from segscale.prompt import Prompt, Word

TOKENIZERS = {"clip": clip_tokenizer(), "t5": t5_tokenizer()}
every_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)


@every_tokenizer
def test_known_words_are_one_token_and_unknown_ones_many(kind: str) -> None:
    stream = stream_tokens(TOKENIZERS[kind], class_prompt(["star", "zebra"]), kind, 16)
    star, zebra = stream.classes
    assert len(star) == 1
    assert len(zebra) > 1
    assert max(star) < min(zebra)


@every_tokenizer
def test_every_occurrence_of_a_word_counts(kind: str) -> None:
    prompt = Prompt("a star, a ring, a star", (Word("star", ((2, 6), (18, 22))),))
    (star,) = stream_tokens(TOKENIZERS[kind], prompt, kind, 16).classes
    assert len(star) == 2


@every_tokenizer
@given(names=st.lists(st.sampled_from(OBJECTS + GROUNDS), min_size=1, max_size=12, unique=True))
def test_words_share_no_column_and_cut_ones_are_named(kind: str, names: list[str]) -> None:
    stream = stream_tokens(TOKENIZERS[kind], class_prompt(names), kind, 16, offset=5)
    columns = [column for word in stream.classes for column in word]
    assert len(set(columns)) == len(columns)
    assert all(5 <= column < 21 for column in columns)
    assert [*stream.cut] == [name for name, word in zip(names, stream.classes, strict=True) if not word]


def test_goca_columns_with_the_real_clip_tokenizer(goca_parity: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(goca_parity / "tiny-sd15" / "tokenizer")
    text = "sofa, cushion, dog, person, clothes, background"
    spans = {word: ((text.index(word), text.index(word) + len(word)),) for word in text.split(", ")}
    prompt = Prompt(
        text,
        (
            Word("sofa", (*spans["sofa"], *spans["cushion"])),
            Word("dog", spans["dog"]),
            Word("person", (*spans["person"], *spans["clothes"])),
        ),
        (Word("background", spans["background"]),),
    )
    stream = stream_tokens(tokenizer, prompt, "clip", 77)
    assert stream.classes == ((1, 3), (5,), (7, 9))
    assert stream.background == ((11,),)
