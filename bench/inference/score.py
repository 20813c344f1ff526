"""Scores images: every front door asks here, so that equal questions get equal answers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TypeVar

import torch

from segscale.errors import UserError

from ...backbones.attention.chunks import chunk_bytes_on
from ...backbones.attention.ways import Way, Ways, ways_on
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import image_generator
from ...backbones.latents.settings import CaptureSettings
from ...datasets.dataset import Sample
from ...methods.method import Method
from ..tasks.task import Task
from .answers import Answer, NoisedImage, Question, Row, ScoredImage, SharedForwards, named_method
from .batch import BatchLimit

NoiseSource = Callable[[Sequence[Sample], CaptureSettings], list[NoisedImage]]
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def score(
    backbone: Backbone,
    task: Task,
    methods: Sequence[Method],
    samples: Sequence[Sample],
    noise: NoiseSource,
    limit: BatchLimit | None = None,
) -> list[ScoredImage]:
    """Score images.

    Methods that want the same noised image and whose prompts have the same texts share the forwards.

    Args:
        backbone: What is asked.
        task: Says what is prompted.
        methods: All of them see every image.
        samples: The images.
        noise: Gives the noised latents of samples, usually ``image_noise``.
        limit: How many images, or prompts of them, share a forward; by default each has its own.

    Raises:
        UserError: What is wrong with an image, which it names.
    """
    scoring = Scoring(backbone, task, noise, limit or BatchLimit())
    return scoring.answer(scoring.ask(methods, samples))


def image_noise(backbone: Backbone, task: Task, seed: int) -> NoiseSource:
    """Noise that follows from seed, dataset and image id, so that it depends on no order, batch or process."""

    def noised(samples: Sequence[Sample], settings: CaptureSettings) -> list[NoisedImage]:
        generators = [image_generator(seed, task.dataset.name, sample.id) for sample in samples]
        return backbone.noised([sample.image for sample in samples], settings, generators)

    return noised


@dataclass(frozen=True)
class AskedImage:
    """An image and what methods ask about it."""

    sample: Sample
    shared: tuple[SharedForwards, ...]


@dataclass(frozen=True)
class Scoring:
    """Asks one backbone about images of one task; as ``score``, in two steps of which the first needs no device."""

    backbone: Backbone
    task: Task
    noise: NoiseSource
    limit: BatchLimit

    def ask(self, methods: Sequence[Method], samples: Sequence[Sample]) -> list[AskedImage]:
        """Say what methods want to know about images."""
        return [AskedImage(sample, self._questions(methods, sample)) for sample in samples]

    def answer(self, asked: Sequence[AskedImage]) -> list[ScoredImage]:
        """Score images; what shares settings and requests goes through the model together."""
        shared = [each for image in asked for each in image.shared if each.texts]
        for alike in _alike(shared, lambda each: each.settings):
            self.limit.over(alike, self._add_noise)
        rows = [Row(each, number, reduce(or_, each.requests)) for each in shared for number in range(len(each.texts))]
        for alike in _alike(rows, lambda row: (row.shared.settings, row.request)):
            self.limit.over(alike, self._answer, in_chunks=bool(alike[0].request.sites))
        return [_scored(image.sample, image.shared) for image in asked]

    @property
    def _ways(self) -> Ways:
        device = self.backbone.device
        return replace(ways_on(device), chunk_bytes=int(self.limit.chunk_share * chunk_bytes_on(device)))

    def _questions(self, methods: Sequence[Method], sample: Sample) -> tuple[SharedForwards, ...]:
        sharing: dict[tuple[CaptureSettings, tuple[str, ...]], SharedForwards] = {}
        for index, method in enumerate(methods):
            prompts = self.task.prompts(method, sample, self.backbone)
            key = (method.settings, prompts.texts)
            shared = sharing.setdefault(key, SharedForwards(sample, *key))
            shared.questions.append(Question(index, method, prompts))
            if prompts.texts:
                with self._image(sample), named_method(method):
                    shared.requests.append(method.request(self.backbone.sites(method.settings.image_size)))
        return tuple(sharing.values())

    def _add_noise(self, batch: Sequence[SharedForwards]) -> None:
        with _timed(batch), self._image(batch[0].sample):
            noised = self.noise([shared.sample for shared in batch], batch[0].settings)
        for shared, each in zip(batch, noised, strict=True):
            shared.noised = each

    @torch.no_grad()
    def _answer(self, batch: Sequence[Row]) -> None:
        shared = [row.shared for row in batch]
        size, answers = shared[0].settings.image_size, list[list[Answer]]()
        with _timed(shared):
            with self._image(shared[0].sample):
                images = [row.image for row in batch]
                observed = self.backbone.observe(images, batch[0].request, size, ways=self._ways)
            for row, maps in zip(batch, observed, strict=True):
                with self._image(row.shared.sample):
                    answers.append(row.answers(self.backbone, maps))
        for each, maps, of_row in zip(shared, observed, answers, strict=True):
            each.answers.append(of_row)
            each.ways.update(maps.ways)

    @contextmanager
    def _image(self, sample: Sample) -> Iterator[None]:
        """Name the image in what is raised; of a batch it is the first."""
        try:
            yield
        except UserError as error:
            image = f"{self.task.dataset.name} image {sample.id}" if sample.id else "the picture"
            raise UserError(f"{image}: {error.problem}", error.hint) from error


def _scored(sample: Sample, shared: Sequence[SharedForwards]) -> ScoredImage:
    answers = dict(answer for each in shared for answer in each.by_method())
    ways: dict[str, Way] = {}
    for each in shared:
        ways |= each.ways
    forwards = sum(len(each.texts) for each in shared)
    return ScoredImage(sample, tuple(answers[index] for index in sorted(answers)), forwards, ways)


def _alike(items: Sequence[Item], key: Callable[[Item], Key]) -> list[list[Item]]:
    """Items of equal keys together, in order."""
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return [*groups.values()]


@contextmanager
def _timed(batch: Sequence[SharedForwards]) -> Iterator[None]:
    """Add wall time to all that share it, in equal parts."""
    start = time.perf_counter()
    yield
    for shared in batch:
        shared.seconds += (time.perf_counter() - start) / len(batch)
