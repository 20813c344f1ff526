"""The prompt of one image under a protocol, as a method reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segscale.errors import UserError
from segscale.prompt import BACKGROUND, Prompt

from ...backbones.backbone import Backbone
from ...datasets.names import Names
from ...datasets.prompts.described import class_prompt, described_prompt, names_prompt, one_thing_prompt
from ...datasets.prompts.expressions import expression_prompt
from ...datasets.prompts.published import published_prompt
from ...methods.method import PromptRule
from .protocol import Protocol


@dataclass(frozen=True)
class PromptGroup:
    """One prompt, and the classes that it asks for."""

    prompt: Prompt
    class_ids: tuple[int, ...]
    """Dataset ids of the prompt's classes, in its order."""
    captioned: bool
    """Whether a caption made it."""


@dataclass(frozen=True)
class PromptGroups:
    """The prompts that ask for one image's classes: one, or one of every class or group of them; one forward each."""

    groups: tuple[PromptGroup, ...]
    full_vocabulary: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """What the text encoders read."""
        return tuple(group.prompt.text for group in self.groups)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Ids of all classes asked for, in the order of the scores."""
        return tuple(id for group in self.groups for id in group.class_ids)

    @property
    def captioned(self) -> bool:
        """Whether captions made all of them."""
        return bool(self.groups) and all(group.captioned for group in self.groups)


def reads_captions(protocol: Protocol, rule: PromptRule) -> bool:
    """Whether the caption of an image makes its prompt, where it has one."""
    return protocol.prompt == "caption" and rule.text in ("published", "described")


def prompts_for_present(
    protocol: Protocol, rule: PromptRule, names: Names, caption: str | None, class_ids: Sequence[int]
) -> PromptGroups:
    """The prompt for the classes of an image, or one for each of them; none where there is nothing to ask."""
    if protocol.asks_expressions and rule.text != "empty":
        return _expression(protocol, rule, caption, class_ids)
    if rule.text == "each":
        return PromptGroups(_each(names, class_ids, rule))
    group = _prompt_group(protocol, rule, names, caption, class_ids)
    needless = not group.prompt.text and rule.text != "empty"
    return PromptGroups(() if needless else (group,))


def prompts_for_vocabulary(
    protocol: Protocol, rule: PromptRule, names: Names, class_ids: Sequence[int], backbone: Backbone
) -> PromptGroups:
    """The full vocabulary in the fewest groups, in order, that the text encoders of ``backbone`` take whole."""
    if rule.text == "each":
        return PromptGroups(_each(names, class_ids, rule), full_vocabulary=True)
    groups: list[PromptGroup] = []
    rest = list(class_ids)
    while rest:
        low, high = 1, len(rest)
        while low < high:
            middle = (low + high + 1) // 2
            prompt = _prompt_group(protocol, rule, names, None, rest[:middle]).prompt
            cut = any(stream.cut for stream in backbone.tokenize(prompt))
            low, high = (low, middle - 1) if cut else (middle, high)
        groups.append(_prompt_group(protocol, rule, names, None, rest[:low]))
        rest = rest[low:]
    return PromptGroups(tuple(groups), full_vocabulary=True)


def _each(names: Names, class_ids: Sequence[int], rule: PromptRule) -> tuple[PromptGroup, ...]:
    """A prompt for every class."""
    prompts = ((id, replace(one_thing_prompt(names[id][0]), location=rule.location)) for id in class_ids)
    return tuple(PromptGroup(prompt, (id,), captioned=False) for id, prompt in prompts)


def _expression(protocol: Protocol, rule: PromptRule, expression: str | None, class_ids: Sequence[int]) -> PromptGroups:
    """The prompt for what an expression means; background competes where the method reads the prompt's words."""
    if not expression:
        raise UserError("it has no expression", "leave it out of the data")
    competes = protocol.background_rule != "none" and rule.text not in ("names", "each")
    prompt = expression_prompt(expression, protocol.prompt == "expression-head", [BACKGROUND] if competes else [])
    return PromptGroups((PromptGroup(replace(prompt, location=rule.location), tuple(class_ids), captioned=True),))


def _prompt_group(
    protocol: Protocol, rule: PromptRule, names: Names, caption: str | None, class_ids: Sequence[int]
) -> PromptGroup:
    """The prompt for ``class_ids``; without a caption, or where none is wanted, it is made of class names."""
    if rule.text == "empty":
        return PromptGroup(Prompt("", ()), (), captioned=False)
    if caption is not None and reads_captions(protocol, rule):
        read = published_prompt if rule.text == "published" else described_prompt
        prompt, named = read(caption, names, class_ids, protocol.caption_background, protocol.add_missing)
        return PromptGroup(replace(prompt, location=rule.location), named, captioned=True)
    leading = [names[id][0] for id in class_ids]
    if not leading:
        return PromptGroup(Prompt("", ()), (), captioned=False)
    if rule.text == "names" or protocol.prompt == "joined-names":
        return PromptGroup(names_prompt(leading, rule.location), tuple(class_ids), captioned=False)
    background = [] if protocol.background_rule == "none" else [BACKGROUND]
    prompt = replace(class_prompt(leading, background), location=rule.location)
    return PromptGroup(prompt, tuple(class_ids), captioned=False)
