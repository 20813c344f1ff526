"""What methods ask of a backbone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segscale.backbones.build import build_backbone
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.prompts import prompts_for_present, prompts_for_vocabulary
from segscale.bench.tasks.task import Task
from segscale.methods.build import build_method
from segscale.methods.method import PromptRule
from segscale.registry import build

BACKBONE = "pocket-sd3"
CLASSES = (1, 3)
PUBLISHED, DESCRIBED = PromptRule("published", "first-substring"), PromptRule()


def pocket_task(protocol_name: str) -> Task:
    return build_task("pocket", build("protocol", protocol_name), RunOptions())


def prompt(protocol_name: str, rule: PromptRule, caption: str | None) -> tuple[str, tuple[int, ...], bool]:
    task = pocket_task(protocol_name)
    asked = prompts_for_present(task.protocol, rule, task.names, caption, CLASSES)
    (group,) = asked.groups
    assert group.prompt.location == rule.location
    assert asked.texts == (group.prompt.text,)
    assert (asked.class_ids, asked.captioned) == (group.class_ids, group.captioned)
    return group.prompt.text, group.class_ids, group.captioned


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


@pytest.mark.parametrize("method_name", ["goca", "seg4diff", "seg4diff-described"])
def test_the_full_vocabulary_comes_in_the_fewest_groups_that_fit(method_name: str) -> None:
    task, backbone = pocket_task("standard-full"), build_backbone(BACKBONE)
    method = build_method(method_name, BACKBONE)
    asked = task.prompts(method, task.dataset[0], backbone)
    assert asked == prompts_for_vocabulary(task.protocol, method.prompt_rule, task.names, task.vocabulary, backbone)
    assert asked.full_vocabulary
    assert asked.class_ids == task.vocabulary == tuple(range(1, 13))
    assert (len(asked.groups) > 1) == (method_name != "seg4diff")
    for group, following in zip(asked.groups, (*asked.groups[1:], None), strict=True):
        assert not any(stream.cut for stream in backbone.tokenize(group.prompt))
        if following is not None:
            longer = (*group.class_ids, following.class_ids[0])
            (more,) = prompts_for_present(task.protocol, method.prompt_rule, task.names, None, longer).groups
            assert any(stream.cut for stream in backbone.tokenize(more.prompt))


def test_an_image_without_classes_is_not_asked_about_unless_nothing_is_the_prompt() -> None:
    task = pocket_task("seg4diff")
    sample = task.dataset[0]
    empty = replace(sample, label=np.full_like(sample.label, 255))
    published, masks = (build_method(name, BACKBONE).prompt_rule for name in ("seg4diff", "seg4diff-masks"))
    assert task.present_prompts(published, sample).texts != ()
    assert task.present_prompts(published, empty).texts == ()
    assert task.present_prompts(masks, empty).texts == ("",)
