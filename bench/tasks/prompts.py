"""The prompt of one image under a protocol, as a method reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segscale.prompt import BACKGROUND, Prompt

from ...datasets.dataset import Dataset
from ...datasets.names import Names, names_by_id
from ...datasets.prompts.described import class_prompt, described_prompt, names_prompt
from ...datasets.prompts.published import published_prompt
from ...methods.method import PromptRule
from .protocol import Protocol


@dataclass(frozen=True)
class ClassPrompt:
    """class_ids: dataset ids of the prompt's classes, in its order. captioned: whether a caption made it."""

    prompt: Prompt
    class_ids: tuple[int, ...]
    captioned: bool


def names_of(rules: Protocol, dataset: Dataset) -> Names:
    """Names of every class id under ``rules``, the one that prompts use first."""
    if rules.names_of is None:
        return tuple((name,) for name in dataset.classes)
    return names_by_id(rules.names, rules.names_of, dataset.classes, dataset.background)


def image_prompt(
    rules: Protocol,
    reading: PromptRule,
    caption: str | None,
    names: Names,
    class_ids: Sequence[int],
) -> ClassPrompt:
    """The prompt for classes ``class_ids`` of one image; rules must be resolved for the dataset.

    Without a caption, or where the rules want none, it is made of the class names.
    """
    if reading.text == "empty":
        return ClassPrompt(Prompt("", ()), (), captioned=False)
    if reading.text != "names" and rules.prompt == "caption" and caption is not None:
        rule = published_prompt if reading.text == "published" else described_prompt
        prompt, said = rule(caption, names, class_ids, rules.caption_background, rules.add_missing)
        return ClassPrompt(replace(prompt, location=reading.location), said, captioned=True)
    first = [names[id][0] for id in class_ids]
    if not first:
        return ClassPrompt(Prompt("", ()), (), captioned=False)
    if reading.text == "names" or rules.prompt == "joined-names":
        return ClassPrompt(names_prompt(first, reading.location), tuple(class_ids), captioned=False)
    background = [] if rules.background_rule == "none" else [BACKGROUND]
    prompt = class_prompt(first, background)
    return ClassPrompt(replace(prompt, location=reading.location), tuple(class_ids), captioned=False)
