"""What methods ask about images, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from segscale.catalogue import config_files, documentation
from segscale.errors import UserError, exception_line

from ...backbones.attention.maps import AttentionMaps
from ...backbones.attention.requests import MapRequest
from ...backbones.attention.ways import Way
from ...backbones.backbone import Backbone
from ...backbones.inputs import PromptedImage
from ...backbones.latents.noise import NoiseLevel
from ...backbones.latents.settings import CaptureSettings
from ...backbones.loading.options import is_out_of_memory
from ...datasets.dataset import Sample
from ...methods.method import ClassScores, Method
from ..tasks.prompts import PromptGroups

CORRECT = f"correct its module, or see {documentation('extending.md')}"
NoisedImage = tuple[Tensor, NoiseLevel]


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
    """Of the denoiser, for all methods together; a row of a batch is one."""
    ways: Mapping[str, Way] = field(default_factory=dict)
    """By module of the denoiser: how its attention was observed."""


@dataclass(frozen=True)
class Question:
    """What one method asks about an image; its place among the methods is ``index``."""

    index: int
    method: Method
    prompts: PromptGroups


@dataclass(frozen=True)
class Answer:
    """What one method makes of one prompt."""

    scores: ClassScores
    cut: tuple[bool, ...]
    """As of ``MethodScores``."""


@dataclass(eq=False)
class SharedForwards:
    """Questions about one image that have the same texts and see the same noised image, from one forward per text."""

    sample: Sample
    settings: CaptureSettings
    texts: tuple[str, ...]
    questions: list[Question] = field(default_factory=list)
    requests: list[MapRequest] = field(default_factory=list)
    """Of every question, where there are texts."""
    noised: NoisedImage | None = None
    answers: list[list[Answer]] = field(default_factory=list)
    """By text, then by question."""
    ways: dict[str, Way] = field(default_factory=dict)
    seconds: float = 0.0

    def by_method(self) -> Iterator[tuple[int, MethodScores]]:
        """The answer to every question, by the method's place."""
        for place, question in enumerate(self.questions):
            answers = [answers[place] for answers in self.answers]
            cut = tuple(cut for answer in answers for cut in answer.cut)
            scores = _merged([answer.scores for answer in answers], question.prompts)
            yield question.index, MethodScores(scores, question.prompts, self.seconds / len(self.questions), cut)


@dataclass(frozen=True)
class Row:
    """One row of a batch: an image under one of its prompts."""

    shared: SharedForwards
    number: int
    """Of the prompt among the image's."""
    request: MapRequest
    """What all methods together need."""

    @property
    def image(self) -> PromptedImage:
        """What the backbone is given."""
        assert self.shared.noised is not None
        return PromptedImage(*self.shared.noised, self.shared.questions[0].prompts.groups[self.number].prompt)

    def answers(self, backbone: Backbone, maps: AttentionMaps) -> list[Answer]:
        """What every method makes of the maps, and which classes were cut from its prompt."""
        return [
            self._answer(question, request, backbone, maps)
            for question, request in zip(self.shared.questions, self.shared.requests, strict=True)
        ]

    def _answer(self, question: Question, request: MapRequest, backbone: Backbone, maps: AttentionMaps) -> Answer:
        prompt = question.prompts.groups[self.number].prompt
        tokens = maps.tokens if prompt == self.image.prompt else backbone.tokenize(prompt)
        with named_method(question.method):
            scores = question.method(replace(maps.only(request), tokens=tokens))
            question.method.check(scores, len(prompt.classes))
        cut = (not any(columns) for columns in zip(*(stream.classes for stream in tokens), strict=True))
        # Counting reads them one by one, and would wait there for whatever the device was given since.
        return Answer(scores.cpu(), tuple(cut))


@contextmanager
def named_method(method: Method) -> Iterator[None]:
    """Name the method and its config in what it raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{_where(method)} {error.problem}", error.hint or CORRECT) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{_where(method)} raised {exception_line(error)}", CORRECT) from error


def _where(method: Method) -> str:
    return f"method {method.name} ({config_files('method').get(method.name, 'no config')})"


def _merged(groups: Sequence[ClassScores], prompts: PromptGroups) -> ClassScores:
    if not groups:
        return ClassScores(torch.empty(0, 1, 1), torch.zeros(1, 1))
    return merge_groups(groups) if prompts.full_vocabulary or len(groups) > 1 else groups[0]


def merge_groups(groups: Sequence[ClassScores]) -> ClassScores:
    """Merge scores of classes that were prompted apart, as those of the full vocabulary are.

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


def refuse_not_finite(methods: Sequence[Method], dataset_name: str, image: ScoredImage) -> None:
    """Raise UserError for a score that is NaN or infinite."""
    for method, answer in zip(methods, image.by_method, strict=True):
        if answer.not_finite:
            place = f"{method.name} on {dataset_name} image {image.sample.id}"
            hint = "check the weights and --dtype, or leave --strict out to count such scores"
            raise UserError(f"{place}: {answer.not_finite} scores are not finite", hint)
