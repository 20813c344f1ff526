from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segscale.datasets.names import class_names
from segscale.datasets.prompts.described import (
    BEFORE,
    BETWEEN,
    class_prompt,
    described_prompt,
    names_prompt,
)
from segscale.datasets.prompts.noun_matching import Matcher
from segscale.errors import UserError
from segscale.prompt import Prompt

VOC = class_names("goca", "voc")
VOC_IDS = {names[0]: index for index, names in enumerate(VOC) if names}
WORDS = ("dog", "dogs", "blue sky", "potted plant", "man", "chest of drawers", "2 people", "café", "high chair")
PIECES = st.sampled_from((*WORDS, "(", ")", ", ", " ", " on ", " and ", ". ", "(man, clothes)", "(dog, rug, sofa)"))
CAPTIONS = st.lists(PIECES, max_size=14).map("".join) | st.text("abc (),.-", max_size=30)
PRESENT = st.lists(st.sampled_from(sorted(VOC_IDS.values())), unique=True, max_size=6)
NAMES = st.lists(st.text("bcdefgh ", min_size=1, max_size=8).map(str.strip).filter(bool), min_size=1, unique=True)


def caption_prompt(caption: str, names: list[str]) -> Prompt:
    return described_prompt(caption, [(name,) for name in names], range(len(names)), False, True)[0]


def said(prompt: Prompt) -> dict[str, list[str]]:
    words = prompt.words
    return {word.name: [prompt.text[start:end] for start, end in word.spans] for word in words}


@given(NAMES)
def test_spans_of_a_class_prompt_say_the_names(names: list[str]) -> None:
    for prompt, separator in ((class_prompt(names), ", "), (names_prompt(names), " ")):
        assert prompt.text == separator.join(names)
        assert said(prompt) == {name: [name] for name in names}


@given(NAMES)
@example(["b", "bb", "b  b"])
def test_every_class_is_said_and_nothing_is_said_twice(names: list[str]) -> None:
    prompt = caption_prompt(", ".join(["sky", *names[::2]]), names)
    assert [word.name for word in prompt.classes] == names
    spans = sorted(span for word in prompt.words for span in word.spans)
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


def described(caption: str, *present: str, background: bool = False, missing: bool = False) -> Prompt:
    return described_prompt(caption, VOC, [VOC_IDS[name] for name in present], background, missing)[0]


def overlapping(prompt: Prompt) -> bool:
    spans = sorted(span for word in prompt.words for span in word.spans)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def unsaid(prompt: Prompt) -> set[str]:
    """What the prompt says outside of every word, in lower case."""
    letters = list(prompt.text.lower())
    for word in prompt.words:
        for start, end in word.spans:
            letters[start:end] = ["|"] * (end - start)
    return set(re.findall(r"\w+", "".join(letters)))


def is_little(word: str) -> bool:
    return re.fullmatch(f"{BETWEEN}|{BEFORE}", word) is not None or word in ("next", "to", "front")


def phrases(caption: str) -> list[str]:
    return [piece.strip() for piece in re.split(r"[(),.;:!?]", caption.lower()) if piece.strip()]


@given(CAPTIONS, PRESENT, st.booleans(), st.booleans())
def test_described_words_say_their_spans_apart_and_lose_no_phrase(
    caption: str, present: list[int], background: bool, missing: bool
) -> None:
    prompt, ids = described_prompt(caption, VOC, present, background, missing)
    spans = [span for word in prompt.words for span in word.spans]
    assert all(0 <= start < end <= len(prompt.text) for start, end in spans)
    assert not overlapping(prompt)
    assert [word.name for word in prompt.classes] == [VOC[index][0] for index in ids]
    assert all(word.spans for word in prompt.words)
    assert list(ids) == [index for index in present if index in ids]
    assert list(ids) == present or not missing
    said_text = prompt.text.lower()
    assert all(phrase in said_text for phrase in phrases(caption))
    assert all(is_little(word) for word in unsaid(prompt))
    assert prompt.location == "span"


@given(CAPTIONS, PRESENT)
def test_a_described_word_says_its_class(caption: str, present: list[int]) -> None:
    """Outside of groups a class word ends with one of its names, singular or plural, blanks aside."""
    prompt, ids = described_prompt(re.sub(r"[()]", " ", caption), VOC, present, False, True)
    matcher = Matcher(VOC, present)
    for index, word in zip(ids, prompt.classes, strict=True):
        for span in word.spans:
            match = matcher(prompt.text[slice(*span)])
            assert match is not None
            assert match.index == index


@given(st.lists(st.sampled_from(sorted(VOC_IDS)), unique=True, min_size=1))
def test_a_class_list_is_its_own_caption(names: list[str]) -> None:
    prompt = described(", ".join(names), *names)
    assert prompt == class_prompt(names)


def test_groups_wherever_they_are() -> None:
    prompt = described("sky, (man, hat), (sofa), grass, (rock, moss)", "person", "sofa")
    assert prompt.text == "sky, man, hat, sofa, grass, rock, moss"
    assert said(prompt) == {
        "person": ["man", "hat"],
        "sofa": ["sofa"],
        "sky": ["sky"],
        "grass": ["grass"],
        "rock, moss": ["rock", "moss"],
    }


def test_a_group_of_two_classes_keeps_its_other_members_beside_them() -> None:
    prompt = described("(collar, dog, man, hat)", "person", "dog")
    assert said(prompt) == {"person": ["man", "hat"], "dog": ["collar", "dog"]}


def test_groups_that_are_nested_open_or_empty() -> None:
    prompt = described("(seat, (man, bib), rug) (), wall (brick), (dog", "person", "dog")
    assert prompt.text == "seat, man, bib, rug, wall, brick, dog"
    assert said(prompt)["person"] == ["man", "bib"]
    assert said(prompt)["dog"] == ["dog"]
    assert [word.name for word in prompt.background] == ["seat", "rug", "wall", "brick"]


def test_names_run_together_match_their_words_and_are_not_said_again() -> None:
    prompt = described("Potted plants, a wooden dining table.", "pottedplant", "diningtable", missing=True)
    assert prompt.text == "Potted plants, a wooden dining table"
    assert said(prompt) == {"pottedplant": ["Potted plants"], "diningtable": ["wooden dining table"]}


def test_a_class_inside_another_word_has_its_own_place() -> None:
    prompt = described("(high chair), carpet, chair, car", "chair", "car")
    assert said(prompt) == {"chair": ["chair"], "car": ["car"], "high chair": ["high chair"], "carpet": ["carpet"]}
    assert [word.spans for word in prompt.classes] == [((20, 25),), ((27, 30),)]


def test_background_comes_before_the_classes_left_out_and_only_once() -> None:
    assert described("sky", "dog", background=True, missing=True).text == "sky, background, dog"
    assert described("Background, sky", background=True).text == "Background, sky"


def test_counts_and_articles_are_not_part_of_a_word() -> None:
    prompt = described("2 people, the two dogs and a kite", "person", "dog")
    assert said(prompt) == {"person": ["people"], "dog": ["dogs"], "kite": ["kite"]}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", 1),
        ("Hot-Dogs", 2),
        ("grilled hot dog", 2),
        ("police dog", 1),
        ("knives", 3),
        ("chest of drawers", 4),
        ("policemen", 5),
        ("shelf", 6),
        ("butterflies", 7),
        ("dress", None),
        ("dogma", None),
        ("dog house", None),
    ],
)
def test_the_class_of_a_phrase(phrase: str, expected: int | None) -> None:
    names = ["wall", "dog", "hot dog", "knife", "chest of drawers", "policeman", "shelves", "butterfly"]
    match = Matcher([(name,) for name in names], range(1, 8))(phrase)
    assert (match and match.index) == expected


def test_a_phrase_that_is_an_absent_class_is_no_other() -> None:
    names = [("dog",), ("hot dog",), ("ground",), ("ground",)]
    assert Matcher(names, [0])("hot dog") is None
    match = Matcher(names, [3])("ground")
    assert match is not None
    assert match.index == 3


def test_seg4diff_cuts_names_at_the_first_hyphen() -> None:
    prompt = names_prompt(["food-things", "bed ", "sky-other-x"])
    assert prompt.text == "food bed  sky"
    assert [prompt.text[slice(*word.spans[0])] for word in prompt.classes] == ["food", "bed ", "sky"]
    assert prompt.location == "counted"
