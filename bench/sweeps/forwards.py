"""How many forwards of the denoiser images of a task take, by what some of them ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...datasets.dataset import Sample
from ...methods.method import Method
from ..tasks.task import Task


@dataclass(frozen=True)
class Forwards:
    """Per image, on average."""

    alone: float
    """If every method were run alone."""
    shared: float
    """By the methods together."""
    at_least: bool = False
    """Whether a full vocabulary may take several groups, whose number only the text encoders know."""


def count_forwards(task: Task, methods: Sequence[Method], samples: Sequence[Sample]) -> Forwards:
    """Of some samples: methods with one noised image and one text of the prompt share a forward."""
    if not samples or not methods:
        return Forwards(0, 0)
    if task.protocol.class_oracle == "all":
        return Forwards(len(methods), len({(method.settings, method.prompt_rule) for method in methods}), at_least=True)
    alone = shared = 0
    for sample in samples:
        texts = [task.present_prompts(method.prompt_rule, sample).texts for method in methods]
        alone += sum(map(len, texts))
        asked = {(method.settings, asked) for method, asked in zip(methods, texts, strict=True)}
        shared += sum(len(each) for _, each in asked)
    return Forwards(alone / len(samples), shared / len(samples))
