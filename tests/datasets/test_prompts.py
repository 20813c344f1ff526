from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segscale.datasets.prompts import caption_prompt, class_prompt

from segscale.errors import UserError
from segscale.prompt import Prompt

NAMES = st.lists(st.text("abcdefgh ", min_size=1, max_size=8).map(str.strip).filter(bool), min_size=1, unique=True)


def said(prompt: Prompt) -> dict[str, list[str]]:
    words = prompt.classes + prompt.background
    return {word.name: [prompt.text[start:end] for start, end in word.spans] for word in words}


@given(NAMES, st.sampled_from([", ", " ", " and "]))
def test_spans_of_a_class_prompt_say_the_names(names: list[str], separator: str) -> None:
    prompt = class_prompt(names, separator=separator)
    assert prompt.text == separator.join(names)
    assert said(prompt) == {name: [name] for name in names}


@given(NAMES)
def test_every_class_is_said_and_nothing_is_said_twice(names: list[str]) -> None:
    prompt = caption_prompt(", ".join(["sky", *names[::2]]), names)
    assert [word.name for word in prompt.classes] == names
    spans = sorted(span for word in prompt.classes + prompt.background for span in word.spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert all(prompt.text[start:end] == word.name for word in prompt.classes for start, end in word.spans)


def test_articles_plurals_and_repetition() -> None:
    prompt = caption_prompt("The stars, a Ring, grass, a star.", ["star", "ring"])
    assert said(prompt) == {"star": ["stars", "star"], "ring": ["Ring"], "grass": ["grass"]}
    assert [word.name for word in prompt.background] == ["grass"]


def test_a_word_inside_a_longer_phrase_is_not_the_class() -> None:
    prompt = caption_prompt("a fire ball, a ball", ["ball"])
    assert said(prompt) == {"ball": ["ball"], "fire ball": ["fire ball"]}
    assert prompt.classes[0].spans == ((15, 19),)


def test_sentences_part_at_their_little_words() -> None:
    prompt = caption_prompt("A dog on grass under a blue sky with clouds", ["dog", "sky", "grass"])
    assert said(prompt) == {"dog": ["dog"], "sky": ["blue sky"], "grass": ["grass"], "clouds": ["clouds"]}
    assert prompt.text == "A dog on grass under a blue sky with clouds"


def test_classes_that_the_caption_leaves_out_are_appended() -> None:
    assert caption_prompt("grass.", ["star"]).text == "grass, star"
    assert caption_prompt("", ["star"]).text == "star"


def test_no_class_is_an_error() -> None:
    with pytest.raises(UserError, match="no class to prompt"):
        class_prompt([])
