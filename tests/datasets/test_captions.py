from __future__ import annotations

import json
from pathlib import Path

import pytest

from segscale.bench.captions.file import CaptionFile
from segscale.datasets.names import class_names
from segscale.datasets.prompts.caption_file import captions_of, image_key, read_captions
from segscale.datasets.prompts.published import published_prompt
from segscale.errors import UserError
from segscale.prompt import Prompt

NAMES = ((), ("dog", "dogs"), ("pottedplant", "plant"), ("rug", "mat"), ("person", "man"))
ALL = (1, 2, 3, 4)


def published(caption: str, present: tuple[int, ...] = ALL, background: bool = False, missing: bool = False) -> Prompt:
    return published_prompt(caption, NAMES, present, background, missing)[0]


def said(prompt: Prompt) -> dict[str, list[str]]:
    return {word.name: [prompt.text[slice(*span)] for span in word.spans] for word in prompt.classes}


def test_full_stop_case_and_repetition() -> None:
    prompt, ids = published_prompt("Mat, Dog, trees, dog, rug.", NAMES, ALL, True, True)
    assert prompt.text == "mat, dog, trees, rug, background, pottedplant, person"
    assert ids == (3, 1, 2, 4)
    assert said(prompt)["rug"] == ["mat", "rug"]
    assert [word.name for word in prompt.background] == ["trees", "background"]
    assert prompt.location == "first-substring"


def test_a_group_counts_for_the_class_of_its_first_member() -> None:
    assert said(published("(man, hat, bag), dog")) == {"person": ["man, hat, bag"], "dog": ["dog"]}


def test_a_group_of_two_classes_drops_its_other_members() -> None:
    prompt = published("(man, hat, dog), sky")
    assert prompt.text == "man, dog, sky"
    assert said(prompt) == {"person": ["man"], "dog": ["dog"]}


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("(dog), sky", "dog, sky"),
        ("sky, (dog), sea", "sky"),
        ("sky, (dog), sea, (man, hat)", "sky, man, hat"),
        ("sky, (dog, sea), sand", "sky, dog, sea, sand"),
        ("tower (stone), sky, (sea, sand)", "sea, sand"),
        ("(tower, (stone, brick)), sky", "tower, stone, brick, , , sky"),
    ],
)
def test_groups_as_the_published_code_splits_them(caption: str, text: str) -> None:
    assert published(caption).text == text


def test_a_name_that_is_not_letter_by_letter_the_lists_is_said_again() -> None:
    prompt = published("potted plant", (2,), missing=True)
    assert prompt.text == "potted plant, pottedplant"
    assert said(prompt) == {"pottedplant": ["pottedplant"]}
    assert published("( dog, ball)", (1,)).classes == ()


def test_a_class_of_the_caption_that_is_not_present_is_background() -> None:
    prompt = published("dog, man", (4,))
    assert said(prompt) == {"person": ["man"]}
    assert [word.name for word in prompt.background] == ["dog"]


def test_missing_classes_come_in_the_order_of_a_set_of_integers() -> None:
    names = [()] + [(f"n{index}",) for index in range(1, 21)]
    assert published_prompt("", names, (9, 18), False, True)[1] == (9, 18)
    assert published_prompt("", names, (7, 8), False, True)[1] == (8, 7)


@pytest.mark.parametrize("dataset", ["voc", "context", "city", "ade", "coco-object"])
def test_prompts_and_their_words_are_the_published_ones(dataset: str, goca_parity: Path) -> None:
    data = json.loads((goca_parity / f"captions-{dataset}.json").read_text())
    names = class_names("goca", {"city": "cityscapes", "ade": "ade20k"}.get(dataset, dataset))
    assert len(data["cases"]) >= 12
    for case in data["cases"]:
        prompt, ids = published_prompt(
            case["raw_caption"],
            names,
            case["assumed_present_classes"],
            data["add_background_token"],
            data["add_missing_class"],
        )
        expected = case["clip"]["entities"]
        classes: dict[int, list[str]] = {}
        for entity in expected:
            if entity["aligned_class"] is not None:
                classes.setdefault(entity["aligned_class"], []).append(entity["prompt"])
        assert prompt.text == case["clip"]["caption"]
        assert list(zip(ids, said(prompt).values(), strict=True)) == list(classes.items())
        assert [word.name for word in prompt.background] == [
            entity["prompt"] for entity in expected if entity["aligned_class"] is None
        ]


def test_caption_files_in_either_form(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"2007_1.jpg": {"caption": "a dog"}, "a.b": "café", "x_leftImg8bit.PNG": "road"}', "utf-8")
    assert read_captions(path) == {"2007_1": "a dog", "a.b": "café", "x_leftImg8bit": "road"}
    assert image_key("2007_1.jpg") == image_key("2007_1") == "2007_1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"a": "b"',
        b"[1]",
        b'{"a": 3}',
        b'{"a": {"text": "b"}}',
        b'{"a": {"caption": null}}',
        b'{"a": "\xff"}',
        b'{"a.jpg": "one", "a.png": "two"}',
    ],
)
def test_a_damaged_caption_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"captions\.json") as caught:
        read_captions(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_caption_file_that_cannot_be_read_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_captions(tmp_path / name)


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ("2007_1.jpg", "2007_1"),
        ("2007_1", "2007_1"),
        ("folder/a.JPEG", "folder/a"),
        ("scene.v2", "scene.v2"),
        ("scene.v2.png", "scene.v2"),
        ("scene.v2.tar", "scene.v2.tar"),
    ],
)
def test_only_the_ending_of_an_image_file_is_no_part_of_an_image_name(image: str, key: str) -> None:
    assert image_key(image) == key


def test_readers_and_the_writer_of_caption_files_agree_on_the_image(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"a.v2": {"caption": "a dog"}, "b.jpg": {"caption": "a cat"}}')
    ids = ("a", "a.v2", "a.v2.jpg", "b", "b.png", "b.v2")
    captions = captions_of(ids, path).by_id
    assert captions == {"a.v2": "a dog", "a.v2.jpg": "a dog", "b": "a cat", "b.png": "a cat"}
    assert CaptionFile(path, {}).captioned(ids) == captions.keys()


@pytest.mark.parametrize(
    ("keys", "ids", "named"),
    [
        (["day1/a", "day2/a"], ["day1/a", "day2/a"], {"day1/a": "day1/a", "day2/a": "day2/a"}),
        (["day1/a.jpg", "a"], ["day1/a", "day2/a"], {"day1/a": "day1/a.jpg"}),
        (["folder/a.JPEG"], ["a", "b"], {"a": "folder/a.JPEG"}),
        (["a", "images/day1/b.jpg"], ["day1/a", "day1/b"], {"day1/a": "a", "day1/b": "images/day1/b.jpg"}),
        (["day2/a", "b"], ["day1/a", "b"], {"b": "b"}),
    ],
)
def test_images_of_one_name_in_several_folders_have_captions_of_their_own(
    keys: list[str], ids: list[str], named: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({key: {"caption": key} for key in keys}))
    assert captions_of(ids, path).by_id == named
    assert CaptionFile(path, {}).captioned(ids) == named.keys()


def test_two_captions_of_the_only_image_of_a_name_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"x/a.jpg": "a dog", "y/a.jpg": "a cat"}')
    with pytest.raises(UserError, match="has two captions for 'a'; leave one of them"):
        captions_of(["a"], path)
