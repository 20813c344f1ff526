"""Words to token columns by the published rules, against the published cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from segscale.backbones.pocket.text import clip_tokenizer, t5_tokenizer
from segscale.backbones.text.tokens import stream_tokens
from segscale.backbones.text.word_columns import encode, first_occurrences, token_ranges
from segscale.datasets.names import class_names
from segscale.datasets.pocket import GROUNDS, OBJECTS
from segscale.datasets.prompts.described import names_prompt
from segscale.datasets.prompts.published import published_prompt
from segscale.prompt import Location, Prompt, Word

LENGTHS = {"clip": 77, "t5": 512}
POCKET = {"clip": clip_tokenizer(), "t5": t5_tokenizer()}
every_stream = pytest.mark.parametrize("kind", LENGTHS)


def prompt_of(text: str, classes: list[str], background: list[str], location: Location) -> Prompt:
    """A prompt whose words are found from left to right."""
    words: list[Word] = []
    index = 0
    for name in classes + background:
        start = text.index(name, index)
        index = start + len(name)
        words.append(Word(name, ((start, index),)))
    return Prompt(text, tuple(words[: len(classes)]), tuple(words[len(classes) :]), location)


@every_stream
@pytest.mark.parametrize("dataset", ["voc", "context", "city", "ade", "coco-object"])
def test_goca_tokens_are_the_published_ones(dataset: str, kind: str, goca_parity: Path, tokenizers: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tokenizers / kind)
    data = json.loads((goca_parity / f"captions-{dataset}.json").read_text())
    names = class_names("goca", {"city": "cityscapes", "ade": "ade20k"}.get(dataset, dataset))
    for case in data["cases"]:
        present, expected = case["assumed_present_classes"], case[kind]
        assert expected["sequence_length"] == LENGTHS[kind]
        prompt, ids = published_prompt(
            case["raw_caption"], names, present, data["add_background_token"], data["add_missing_class"]
        )
        assert [[*span] for _, span in first_occurrences(prompt)] == [e["char_range"] for e in expected["entities"]]
        ranges = token_ranges(prompt.text, encode(tokenizer, prompt.text, LENGTHS[kind]))
        shown = len(expected["token_char_range"])
        assert [span and [*span] for span in ranges[:shown]] == expected["token_char_range"]
        stream = stream_tokens(tokenizer, prompt, kind, LENGTHS[kind])
        classes = {str(index): [*columns] for index, columns in zip(ids, stream.classes, strict=True)}
        assert [*classes.items()] == [*expected["existent_objects"].items()]
        assert [[*columns] for columns in stream.background if columns] == expected["background_objects"]
        taken = {column for columns in stream.classes + stream.background for column in columns}
        assert sorted(taken) == expected["rescaling_token_id"]
        assert set(expected["global_token_id"]) <= set(stream.special)


@pytest.mark.parametrize("tokenizer", ["tiny-sd3/tokenizer", "tiny-flux/tokenizer_2"])
@pytest.mark.parametrize(
    ("case", "dataset"),
    [
        ("voc20", "voc20"),
        ("coco_object", "coco-object"),
        ("ade150", "ade20k"),
        ("ade150_long", "ade20k"),
        ("cityscapes", "cityscapes"),
    ],
)
def test_seg4diff_counts_are_the_published_ones(tokenizer: str, case: str, dataset: str, seg4diff_parity: Path) -> None:
    family = tokenizer.split("/")[0].removeprefix("tiny-")
    meta = json.loads((seg4diff_parity / "oracle" / "meta.json").read_text())[f"{family}_{case}"]
    arrays = np.load(seg4diff_parity / "oracle" / f"{family}_{case}.npz")
    names = class_names("seg4diff", dataset)
    prompt = names_prompt([names[index][0] for index in arrays["gt_indices"]])
    assert prompt.text == meta["prompt"]
    assert [word.name for word in prompt.classes] == meta["classnames"]
    loaded: Any = AutoTokenizer.from_pretrained(seg4diff_parity / tokenizer)
    assert loaded(prompt.text, verbose=False)["input_ids"] == arrays["prompt_ids"].tolist()
    whole = stream_tokens(loaded, prompt, family, 1000)
    counts = [len(columns) for columns in whole.classes]
    assert counts == arrays["num_tokens"].tolist() == meta["num_tokens"]
    columns = [column for word in whole.classes for column in word]
    first = 1 if family == "sd3" else 0
    assert columns == list(range(first, first + sum(counts)))
    kept = stream_tokens(loaded, prompt, family, 77)
    assert [column for word in kept.classes for column in word] == columns[: 77 - first]
    assert kept.cut == tuple(
        word.name for word, end in zip(prompt.classes, first + np.cumsum(counts), strict=True) if end > 77
    )


@every_stream
def test_a_word_inside_an_earlier_one_has_no_tokens_by_first_substring(kind: str) -> None:
    ball, background = Word("ball", ((17, 21),)), (Word("fire ball", ((0, 9),)), Word("and", ((23, 26),)))
    text = "fire ball, sand, ball, and"
    spans = stream_tokens(POCKET[kind], Prompt(text, (ball,), background), kind, 40)
    published = stream_tokens(POCKET[kind], Prompt(text, (ball,), background, "first-substring"), kind, 40)
    assert spans.classes[0]
    assert published.classes == ((),)
    # T5 writes an unknown word as a bare word mark and letters; the mark belongs to no word.
    assert published.background == (spans.background[0][1 if kind == "t5" else 0 :], ())
    assert published.cut == ()


@every_stream
def test_the_earlier_of_two_words_has_the_tokens_that_both_hold(kind: str) -> None:
    text = "star, ring, tar, ring"
    late, star, ring = Word("tar, ring", ((12, 21),)), Word("star", ((0, 4),)), Word("ring", ((6, 10),))
    prompt = Prompt(text, (late, star, ring), (), "first-substring")
    assert first_occurrences(prompt) == [(star, (0, 4)), (ring, (6, 10)), (late, (1, 10))]
    spans = stream_tokens(POCKET[kind], Prompt(text, (star, ring)), kind, 16)
    assert stream_tokens(POCKET[kind], prompt, kind, 16).classes == ((), *spans.classes)


def test_a_token_that_does_not_occur_starts_one_before_the_last(tokenizers: Path) -> None:
    text = "café, dog"
    tokenizer: Any = AutoTokenizer.from_pretrained(tokenizers / "clip")
    encoding = encode(tokenizer, text)
    ranges = token_ranges(text, encoding)
    lost = next(i for i, token in enumerate(encoding.tokens) if "Ã" in token)
    before = ranges[lost - 1]
    end = before[1] if before else 0
    plain = encoding.tokens[lost].removesuffix("</w>")
    assert ranges[lost] == (end - 1, end - 1 + len(plain))
    assert ranges[0] is None
    assert ranges[-1] is None


@every_stream
@given(st.lists(st.sampled_from(OBJECTS + GROUNDS), min_size=1, max_size=9, unique=True), st.integers(0, 9))
def test_the_rules_agree_on_words_that_hold_no_other(kind: str, names: list[str], offset: int) -> None:
    apart = [name for name in names if not any(name != other and name in other for other in names)]
    columns = {
        location: stream_tokens(
            POCKET[kind], prompt_of(" ".join(apart), apart, [], location), kind, LENGTHS[kind], offset
        ).classes
        for location in ("span", "first-substring", "counted")
    }
    assert columns["span"] == columns["first-substring"] == columns["counted"]
    assert all(len(word) == 1 for word in columns["span"])
    assert columns["span"][0][0] == offset + (kind == "clip")


@every_stream
def test_counted_words_past_the_end_have_no_column_and_a_cut_one_keeps_the_end_token(kind: str) -> None:
    prompt = names_prompt(["star", "zebra", "ring"])
    first = 1 if kind == "clip" else 0
    whole = stream_tokens(POCKET[kind], prompt, kind, 32)
    letters = len(whole.classes[1])
    assert letters > 2
    stream = stream_tokens(POCKET[kind], prompt, kind, first + 3)
    assert stream.classes == ((first,), (first + 1, first + 2), ())
    assert stream.cut == ("zebra", "ring")
    assert first + 2 in stream.special
