"""What is asked of a backbone about one image, and what a method makes of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from segscale.prompt import Prompt

from ...backbones.attention.maps import CaptureSettings
from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.names import Names
from ...methods.method import ClassScores, Method
from ..tasks.prompts import ClassPrompt, image_prompt, names_of
from ..tasks.protocol import Protocol


@dataclass(frozen=True)
class Question:
    """The prompts that ask for one image's classes: one, or the groups of the full vocabulary."""

    prompts: tuple[ClassPrompt, ...]
    full: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """One forward each."""
        return tuple(one.prompt.text for one in self.prompts)

    @property
    def class_ids(self) -> tuple[int, ...]:
        return tuple(id for one in self.prompts for id in one.class_ids)

    @property
    def captioned(self) -> bool:
        return bool(self.prompts) and all(one.captioned for one in self.prompts)


Asker = Callable[[Method, Sample], Question]


def ask(rules: Protocol, method: Method, sample: Sample, names: Names, class_ids: Sequence[int]) -> Question:
    """The question of ``method`` about present classes. Without classes and without a prompt no forward is needed."""
    whole = image_prompt(rules, method.prompt, sample.caption, names, class_ids)
    unasked = not whole.prompt.text and method.prompt.text != "empty"
    return Question(() if unasked else (whole,))


def ask_everything(
    model: Backbone, rules: Protocol, method: Method, names: Names, class_ids: Sequence[int]
) -> Question:
    """The full vocabulary in the fewest groups, in order, that the text encoders take whole; alike for every image."""
    groups: list[ClassPrompt] = []
    rest = list(class_ids)
    while rest:
        low, high = 1, len(rest)
        while low < high:
            middle = (low + high + 1) // 2
            prompt = image_prompt(rules, method.prompt, None, names, rest[:middle]).prompt
            low, high = (low, middle - 1) if any(s.cut for s in model.tokenize(prompt)) else (middle, high)
        groups.append(image_prompt(rules, method.prompt, None, names, rest[:low]))
        rest = rest[low:]
    return Question(tuple(groups), full=True)


def asker(model: Backbone, rules: Protocol, methods: Sequence[Method], data: Dataset) -> Asker:
    """What each of ``methods`` asks about a sample under ``rules``, which must be resolved for ``data``."""
    names = names_of(rules, data)
    if rules.class_oracle == "present":
        return lambda method, sample: ask(rules, method, sample, names, rules.present_classes(sample, data))
    fixed = {method: ask_everything(model, rules, method, names, rules.vocabulary(data)) for method in methods}
    return lambda method, sample: fixed[method]


def answer(
    model: Backbone,
    asked: Sequence[tuple[Method, Question]],
    sample: Sample,
    settings: CaptureSettings,
    generator: torch.Generator,
) -> list[ClassScores]:
    """Scores of methods whose questions have the same texts and settings, from one forward per text.

    Every text sees the same noised image.
    """
    questions = [question for _, question in asked]
    if not questions[0].prompts:
        return [ClassScores(torch.empty(0, 1, 1), torch.zeros(1, 1)) for _ in asked]
    sites = model.sites(settings.image_size)
    requests = [method.request(sites) for method, _ in asked]
    noised = model.noised(sample.image, settings, generator)
    found: list[list[ClassScores]] = [[] for _ in asked]
    for number, one in enumerate(questions[0].prompts):
        maps = model.observe(*noised, one.prompt, reduce(or_, requests), settings.image_size)
        for scores, request, (method, question) in zip(found, requests, asked, strict=True):
            prompt: Prompt = question.prompts[number].prompt
            tokens = maps.tokens if prompt == one.prompt else model.tokenize(prompt)
            scores.append(method(replace(maps.only(request), tokens=tokens)))
    return [combined(scores) if question.full else scores[0] for scores, question in zip(found, questions, strict=True)]


def combined(groups: Sequence[ClassScores]) -> ClassScores:
    """Scores of the full vocabulary, whose groups were prompted apart.

    Maps that a method stretches per word say nothing of whether the word is there. So every class is scaled by its
    evidence over the largest evidence of all groups (``ClassScores.evidence``); background is the groups' mean.

    GoCA's evidence is how far the word's share of attention rises above its mean, see ``rescaling.prominence``; raw
    attention needs none. On the twins' calibration scenes this was 4 points of mIoU better than the map's maximum, and
    powers of it, or the maximum of background over groups, were no better.
    """
    evidence = torch.cat([group.evidence for group in groups])
    classes = torch.cat([group.classes for group in groups])
    largest = evidence.max()
    scale: Tensor = evidence / largest if largest > 0 else torch.ones_like(evidence)
    background = torch.stack([group.background for group in groups]).mean(0)
    return ClassScores(classes * scale[:, None, None], background, evidence)
