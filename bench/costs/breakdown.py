"""Where a second of a run goes: every step of an image by itself, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import Tensor

from segscale.errors import UserError
from segscale.registry import build

from ...backbones.attention.maps import AttentionMaps
from ...backbones.backbone import Backbone
from ...backbones.inputs import PromptedImage
from ...backbones.text.conditioning import Conditioning
from ...datasets.dataset import Sample
from ...methods.method import ClassScores, Method
from ..inference.score import image_noise
from ..runs.parts import ImageRecord, as_table, write_part
from ..tasks.task import Task
from .forward import measure
from .throughput import LOADS, LoadPictures

BESIDE = ("decode", "evaluation", "store")
"""Steps that workers do beside the device."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Breakdown:
    """Seconds of one image, by step, in the order of a run."""

    decode: float
    """A JPEG and a mask of VOC's size, from file to pixels and class ids."""
    text: float
    """Encoding the prompt, which is done once per distinct text."""
    vae: float
    denoiser: float
    """The plain forward."""
    observing: float
    """What observation adds to it."""
    methods: float
    """From maps to scores."""
    evaluation: float
    """Counting pixels at every threshold."""
    store: float
    """Its part of a part on disk."""

    @property
    def steps(self) -> dict[str, float]:
        """By name."""
        return asdict(self)

    @property
    def waiting(self) -> float:
        """What the device waits for where nothing works beside it."""
        return sum(self.steps[name] for name in BESIDE)

    @property
    def busy_share(self) -> float:
        """Of the device's time, where nothing works beside it."""
        return 1 - self.waiting / sum(self.steps.values())


def break_down(backbone: Backbone, methods: Sequence[Method], batch: int, repeats: int) -> Breakdown:
    """Take every step ``repeats`` times, after one that does not count, and give its middle.

    Args:
        backbone: Its weights may be random.
        methods: All in one forward.
        batch: Images of one forward.
        repeats: Of every step.

    Raises:
        UserError: For methods that do not share a noised image and a prompt.
    """
    asked = [(method.settings, method.prompt_rule) for method in methods]
    apart = [method.name for method, question in zip(methods, asked, strict=True) if question != asked[0]]
    if apart:
        raise UserError(f"{apart[0]} cannot share a forward with {methods[0].name}", "measure them one by one")
    with TemporaryDirectory() as folder:
        return _Steps(backbone, methods, batch, repeats, Path(folder)).measured()


class _Steps:
    def __init__(self, backbone: Backbone, methods: Sequence[Method], batch: int, repeats: int, folder: Path) -> None:
        self.backbone, self.methods, self.batch, self.repeats = backbone, methods, batch, repeats
        self.settings = methods[0].settings
        backbone.check_size(self.settings.image_size)
        sites = backbone.sites(self.settings.image_size)
        self.requests = [method.request(sites) for method in methods]
        self.pictures = LoadPictures(LOADS[0], folder, batch, batch)
        self.task = Task.of(build("protocol", "standard"), self.pictures)
        self.part = folder / "part"

    def measured(self) -> Breakdown:
        decode, samples = self._middle(lambda: [self.pictures[index] for index in range(self.batch)])
        groups = [self.task.present_prompts(self.methods[0].prompt_rule, sample) for sample in samples]
        texts = [text for group in groups for text in group.texts]
        text, _ = self._middle(lambda: self._encoded(texts))
        noise = image_noise(self.backbone, self.task, 0)
        vae, noised = self._middle(lambda: noise(samples, self.settings))
        images = [PromptedImage(*pair, group.groups[0].prompt) for pair, group in zip(noised, groups, strict=True)]
        plain, _ = self._middle(lambda: self._plain(images))
        observed, maps = self._middle(lambda: self._observed(images))
        scoring, scores = self._middle(lambda: [self._scores(each) for each in maps])
        ids = [group.class_ids for group in groups]
        counting, records = self._middle(lambda: self._counted(samples, ids, scores))
        store, _ = self._middle(lambda: self._stored(records))
        return Breakdown(decode, text, vae, plain, max(observed - plain, 0.0), scoring, counting, store)

    def _middle(self, work: Callable[[], Result]) -> tuple[float, Result]:
        """Seconds per image, and what the last repetition gave."""
        result = work()
        seconds = list[float]()
        for _ in range(self.repeats):
            cost, result = measure(work, self.backbone.device)
            seconds.append(cost.seconds / self.batch)
        return median(seconds), result

    @torch.no_grad()
    def _encoded(self, texts: list[str]) -> Conditioning:
        return self.backbone.encode_text(texts)

    @torch.no_grad()
    def _plain(self, images: Sequence[PromptedImage]) -> Tensor:
        latents = torch.cat([image.noised for image in images]).to(self.backbone.dtype)
        timesteps = torch.tensor([image.level.timestep for image in images], device=latents.device)
        conditioning = self.backbone.conditioning([image.prompt.text for image in images])
        return self.backbone.denoise(latents, timesteps, conditioning)

    def _observed(self, images: Sequence[PromptedImage]) -> list[AttentionMaps]:
        return self.backbone.observe(images, reduce(or_, self.requests), self.settings.image_size)

    @torch.no_grad()
    def _scores(self, maps: AttentionMaps) -> list[ClassScores]:
        # What methods share must be made anew every time.
        fresh = replace(maps, shared_cache={})
        asked = zip(self.methods, self.requests, strict=True)
        return [method(fresh.only(request)) for method, request in asked]

    def _counted(
        self, samples: Sequence[Sample], ids: Sequence[tuple[int, ...]], scores: Sequence[Sequence[ClassScores]]
    ) -> list[ImageRecord]:
        """A record of every image and method, as if all were of one run."""
        records = list[ImageRecord]()
        for sample, class_ids, by_method in zip(samples, ids, scores, strict=True):
            for number, each in enumerate(by_method):
                counts = self.task.count(each, class_ids, sample)
                pixels = self.task.evaluated_pixels(sample)
                records.append(ImageRecord(f"{sample.id} {number}", 0.0, 0, pixels, counts, sample.digests))
        return records

    def _stored(self, records: Sequence[ImageRecord]) -> None:
        with self.part.open("wb") as file:
            write_part(as_table(records), "breakdown", file)
            file.flush()
            os.fsync(file.fileno())
