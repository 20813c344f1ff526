"""What methods ask of a backbone, and how questions share forwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.bench.inference.score import ask, ask_everything, combined
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.plan import RunOptions, build_dataset, build_method
from segscale.bench.tasks.prompts import image_prompt, names_of
from segscale.bench.tasks.protocol import Protocol
from segscale.datasets.dataset import Dataset
from segscale.methods.build import method_defaults
from segscale.methods.method import ClassScores, Method, PromptRule

from segscale.registry import build

BACKBONE = "pocket-sd3"
CLASSES = (1, 3)
PUBLISHED, DESCRIBED = PromptRule("published", "first-substring"), PromptRule()


def rules_and_data(protocol: str, dataset: str = "pocket") -> tuple[Protocol, Dataset]:
    rules: Protocol = build("protocol", protocol)
    data = build_dataset(dataset, RunOptions(), rules)
    return rules.resolved(data), data


def prompt(protocol: str, reading: PromptRule, caption: str | None) -> tuple[str, tuple[int, ...], bool]:
    rules, data = rules_and_data(protocol)
    made = image_prompt(rules, reading, caption, names_of(rules, data), CLASSES)
    assert made.prompt.location == reading.location
    return made.prompt.text, made.class_ids, made.captioned


def test_a_caption_drives_the_prompt_where_there_is_one() -> None:
    caption = "grass, (leaf, gem)"
    assert prompt("standard", DESCRIBED, caption) == ("grass, leaf, gem", (1, 3), True)
    assert prompt("standard", PUBLISHED, caption) == ("grass, leaf, gem", (3, 1), True)
    assert prompt("standard", DESCRIBED, None) == ("gem, leaf, background", (1, 3), False)


def test_published_captions_lose_a_group_of_one_word_and_described_ones_do_not() -> None:
    caption = "grass, (gem), sand"
    assert prompt("standard", PUBLISHED, caption)[0] == "grass, gem, leaf"
    assert prompt("standard", DESCRIBED, caption)[0] == "grass, gem, sand, leaf"


def test_protocols_add_what_they_say() -> None:
    assert prompt("goca", PUBLISHED, "grass, gem")[:2] == ("grass, gem, background", (1,))
    assert prompt("seg4diff", DESCRIBED, "grass, gem")[0] == "ball cone"  # ids without background
    assert prompt("standard-full", DESCRIBED, None)[0] == "gem, leaf, background"


def test_names_and_nothing_whatever_the_protocol_says() -> None:
    assert prompt("standard", PromptRule("names", "counted"), "grass, gem") == ("gem leaf", (1, 3), False)
    assert prompt("standard", PromptRule("empty"), "grass, gem") == ("", (), False)


@pytest.mark.parametrize("method", ["goca", "seg4diff", "seg4diff-described"])
def test_the_full_vocabulary_comes_in_the_fewest_groups_that_fit(method: str) -> None:
    rules, data = rules_and_data("standard-full")
    model = build_backbone(BACKBONE)
    asker, names = build_method(method, BACKBONE), names_of(rules, data)
    question = ask_everything(model, rules, asker, names, rules.vocabulary(data))
    assert question.class_ids == rules.vocabulary(data) == tuple(range(1, 13))
    assert (len(question.prompts) > 1) == (method != "seg4diff")
    for one, following in zip(question.prompts, (*question.prompts[1:], None), strict=True):
        assert not any(stream.cut for stream in model.tokenize(one.prompt))
        if following is not None:
            longer = (*one.class_ids, following.class_ids[0])
            more = image_prompt(rules, asker.prompt_rule, None, names, longer).prompt
            assert any(stream.cut for stream in model.tokenize(more))


def test_an_image_without_classes_is_not_asked_about_unless_nothing_is_the_prompt() -> None:
    rules, data = rules_and_data("seg4diff")
    sample = data[0]
    published, masks = (build_method(name, BACKBONE) for name in ("seg4diff", "seg4diff-masks"))
    assert ask(rules, published, sample, names_of(rules, data), ()).texts == ()
    assert ask(rules, masks, sample, names_of(rules, data), ()).texts == ("",)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.integers(1, 5))
def test_groups_are_scaled_by_their_evidence_whatever_the_grouping(evidence: list[float], cut: int) -> None:
    cut = min(cut, len(evidence) - 1)
    weights = torch.tensor(evidence)
    maps, background = torch.rand(len(evidence), 3, 3), torch.rand(3, 3)
    parts = [slice(0, cut), slice(cut, None)]
    groups = [ClassScores(maps[part], background, weights[part]) for part in parts]
    together = combined(groups)
    torch.testing.assert_close(together.classes, maps * (weights / weights.max())[:, None, None])
    torch.testing.assert_close(together.classes, combined([ClassScores(maps, background, weights)]).classes)
    torch.testing.assert_close(together.background, background)


def counted_forwards(methods: list[Method], path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[float]]:
    """Forwards of four images, and what every run says of them."""
    observe, forwards = Backbone.observe, 0

    def counted(self: Backbone, *arguments: object, **keywords: object) -> object:
        nonlocal forwards
        forwards += 1
        return observe(self, *arguments, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    stores = run_methods(BACKBONE, methods, "pocket", "standard", RunOptions(limit=4, results=path))
    return forwards, [store.read()["forwards_per_image"] for store in stores]


def test_seg4diff_shares_a_forward_where_prompt_and_noised_image_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goca = build_method("goca", BACKBONE)
    shared = {"timestep": method_defaults(BACKBONE).timestep, "resize": "bicubic", "posterior": "sample"}
    alike = build_method("seg4diff-described", BACKBONE, name="alike", **shared)
    assert counted_forwards([goca, alike], tmp_path / "alike", monkeypatch) == (4, [1, 1])


def test_a_run_says_how_many_forwards_an_image_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("goca", "vanilla", "seg4diff", "seg4diff-described")
    methods = [build_method(name, BACKBONE) for name in names]
    forwards, said = counted_forwards(methods, tmp_path, monkeypatch)
    assert forwards == 12
    assert said == [3] * 4


def test_a_run_says_whether_captions_made_its_prompts(tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    for protocol, captioned in (("standard", 2), ("standard-full", 0)):
        (store,) = run_methods(BACKBONE, [build_method("goca", BACKBONE)], "pocket", protocol, options)
        assert (store.read()["captioned"], store.read()["asked"]) == (captioned, 2)
    methods = [build_method(name, BACKBONE) for name in ("goca", "seg4diff")]
    longer = RunOptions(limit=3, results=tmp_path)
    resumed, names = run_methods(BACKBONE, methods, "pocket", "standard", longer)
    assert (resumed.read()["captioned"], resumed.read()["asked"]) == (3, 3)
    assert (names.read()["captioned"], names.read()["asked"]) == (0, 3)
