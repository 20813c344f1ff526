"""Scores images: every front door asks here, so that equal questions get equal answers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from segscale.catalogue import config_files, documentation
from segscale.errors import UserError, exception_line

from ...backbones.attention.requests import MapRequest
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import NoiseLevel, image_generator
from ...backbones.latents.settings import CaptureSettings
from ...datasets.dataset import Sample
from ...methods.method import ClassScores, Method
from ..tasks.prompts import PromptGroups
from ..tasks.task import Task

CORRECT = f"correct its module, or see {documentation('extending.md')}"
NoisedImage = tuple[Tensor, NoiseLevel]
NoiseSource = Callable[[Sample, CaptureSettings], NoisedImage]


@dataclass(frozen=True)
class MethodScores:
    """What one method makes of one image."""

    scores: ClassScores
    prompts: PromptGroups
    """What was asked; its class ids are those of the scores."""
    seconds: float
    """Wall time of the forwards, divided by the methods that share them."""
    cut: tuple[bool, ...]
    """Of every class of the scores, whether none of its tokens is in the prompt that the backbone read; empty for
    nameless masks."""

    @property
    def cut_classes(self) -> int:
        """How many classes have no token, and so no score of their own."""
        return sum(self.cut)

    @property
    def not_finite(self) -> int:
        """How many scores of background and of classes that have a token are NaN or infinite."""
        classes = (
            self.scores.classes[[i for i, cut in enumerate(self.cut) if not cut]] if self.cut else self.scores.classes
        )
        return int((~classes.isfinite()).sum() + (~self.scores.background.isfinite()).sum())


@dataclass(frozen=True)
class ScoredImage:
    """One image through all methods."""

    sample: Sample
    by_method: tuple[MethodScores, ...]
    """In the order of the methods."""
    forwards: int
    """Of the denoiser, for all methods together."""


@dataclass(frozen=True)
class _Question:
    """What one method asks about an image; its place among the methods is ``index``."""

    index: int
    method: Method
    prompts: PromptGroups


def score(
    backbone: Backbone,
    task: Task,
    methods: Sequence[Method],
    samples: Sequence[Sample],
    noise: NoiseSource,
) -> list[ScoredImage]:
    """Score a batch of images.

    Methods that want the same noised image and whose prompts have the same texts share the forwards.

    Args:
        backbone: What is asked.
        task: Says what is prompted.
        methods: All of them see every image.
        samples: The batch.
        noise: Gives the noised latent of a sample, usually ``image_noise``.

    Raises:
        UserError: What is wrong with an image, which it names.
    """
    return [_score_image(backbone, task, methods, sample, noise) for sample in samples]


def image_noise(backbone: Backbone, task: Task, seed: int) -> NoiseSource:
    """Noise that follows from seed, dataset and image id, so that it depends on no order, batch or process."""

    def noised(sample: Sample, settings: CaptureSettings) -> NoisedImage:
        generator = image_generator(seed, task.dataset.name, sample.id)
        return backbone.noised(sample.image, settings, generator)

    return noised


def _score_image(
    backbone: Backbone, task: Task, methods: Sequence[Method], sample: Sample, noise: NoiseSource
) -> ScoredImage:
    questions = [_Question(i, method, task.prompts(method, sample, backbone)) for i, method in enumerate(methods)]
    sharing: dict[tuple[CaptureSettings, tuple[str, ...]], list[_Question]] = defaultdict(list)
    for question in questions:
        sharing[question.method.settings, question.prompts.texts].append(question)
    answers: dict[int, MethodScores] = {}
    for (settings, _), group in sharing.items():
        start = time.perf_counter()
        try:
            answered = _answer(backbone, group, sample, settings, noise)
        except UserError as error:
            image = f"{task.dataset.name} image {sample.id}" if sample.id else "the picture"
            raise UserError(f"{image}: {error.problem}", error.hint) from error
        seconds = (time.perf_counter() - start) / len(group)
        for question, (scores, cut) in zip(group, answered, strict=True):
            answers[question.index] = MethodScores(scores, question.prompts, seconds, cut)
    forwards = sum(len(texts) for _, texts in sharing)
    return ScoredImage(sample, tuple(answers[i] for i in range(len(methods))), forwards)


@torch.no_grad()
def _answer(
    backbone: Backbone, questions: Sequence[_Question], sample: Sample, settings: CaptureSettings, noise: NoiseSource
) -> list[tuple[ClassScores, tuple[bool, ...]]]:
    """Scores for questions with the same texts, from one forward per text, and which classes were cut from these.

    All questions see the same noised image.
    """
    leading = questions[0].prompts.groups
    if not leading:
        return [(ClassScores(torch.empty(0, 1, 1), torch.zeros(1, 1)), ()) for _ in questions]
    sites = backbone.sites(settings.image_size)
    requests: list[MapRequest] = []
    for question in questions:
        with _named(question.method):
            requests.append(question.method.request(sites))
    noised = noise(sample, settings)
    groups: list[list[ClassScores]] = [[] for _ in questions]
    cut: list[list[bool]] = [[] for _ in questions]
    for number, group in enumerate(leading):
        maps = backbone.observe(*noised, group.prompt, reduce(or_, requests), settings.image_size)
        for scores, without, request, question in zip(groups, cut, requests, questions, strict=True):
            prompt = question.prompts.groups[number].prompt
            tokens = maps.tokens if prompt == group.prompt else backbone.tokenize(prompt)
            with _named(question.method):
                answer = question.method(replace(maps.only(request), tokens=tokens))
                question.method.check(answer, len(prompt.classes))
            scores.append(answer)
            without += [not any(columns) for columns in zip(*(stream.classes for stream in tokens), strict=True)]
    return [
        (merge_groups(scores) if question.prompts.full_vocabulary else scores[0], tuple(without))
        for scores, without, question in zip(groups, cut, questions, strict=True)
    ]


@contextmanager
def _named(method: Method) -> Iterator[None]:
    """Name the method and its config in what it raises."""
    where = f"method {method.name} ({config_files('method').get(method.name, 'no config')})"
    try:
        yield
    except UserError as error:
        raise UserError(f"{where} {error.problem}", error.hint or CORRECT) from error
    except Exception as error:
        raise UserError(f"{where} raised {exception_line(error)}", CORRECT) from error


def merge_groups(groups: Sequence[ClassScores]) -> ClassScores:
    """Merge scores of the full vocabulary, whose groups were prompted apart.

    Maps that a method normalises per word say nothing of whether the word is there. So every class is scaled by its
    evidence over the largest evidence of all groups (``ClassScores.evidence``); background is the groups' mean.

    GoCA's evidence is how far the word's share of attention rises above its mean, see ``rescaling.peak_contrast``; raw
    attention needs none. On the twins' calibration scenes this was 4 points of mIoU better than the map's maximum, and
    powers of it, or the maximum of background over groups, were no better.
    """
    evidence = torch.cat([group.evidence for group in groups])
    classes = torch.cat([group.classes for group in groups])
    largest = evidence.max()
    scale: Tensor = evidence / largest if largest > 0 else torch.ones_like(evidence)
    background = torch.stack([group.background for group in groups]).mean(0)
    return ClassScores(classes * scale[:, None, None], background, evidence)
