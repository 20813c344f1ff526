"""Batches of mask alignment: noised images, their prompts, and the mask of every prompted class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segscale.errors import UserError
from segscale.prompt import Prompt

from ...backbones.attention.sites import Grid
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import NoiseLevel, level_of_share, normal_draws
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...backbones.text.tokens import StreamTokens, token_columns
from ...datasets.dataset import Sample
from ...datasets.labels import IGNORE_LABEL
from ...methods.method import PromptRule
from ...methods.rescaling import merged_columns
from ..tasks.task import Task
from .settings import SIGMA_SPREAD, AlignmentSettings

MOST_MASKS = 32
"""Without a name, of one image."""
TRIES = 100
"""Images looked at for one that shows a class."""


@dataclass(frozen=True)
class TargetMask:
    """One mask of one image of a batch."""

    row: int
    """Of the image in the batch."""
    columns: tuple[int, ...]
    """Token columns of its class; empty for one without a name."""
    mask: Tensor
    """float32 ``(height, width)`` of the denoiser's grid, 0 or 1."""


@dataclass(frozen=True)
class TrainingBatch:
    """What one step sees."""

    noised: Tensor
    """float32 ``(n, channels, height, width)``."""
    target: Tensor
    """What the denoiser should answer."""
    timesteps: Tensor
    """``(n,)``, as the scheduler counts."""
    texts: list[str]
    masks: list[TargetMask]
    """Of all classes that have a token, or of all labels."""
    token_columns: list[tuple[int, ...]]
    """Of every text those of its streams' tokens; SD3 without its T5 has others, which are zero."""


@dataclass(frozen=True)
class BatchSource:
    """Draws batches, each from the seed and the number of its step alone."""

    backbone: Backbone
    task: Task
    image_size: int
    grid: Grid
    """Of the masks."""
    settings: AlignmentSettings
    images: int
    """Only the first ones of the dataset are drawn from."""

    def draw(self, step: int) -> TrainingBatch:
        """The batch of a step. Raises UserError where no image shows a class."""
        rng = np.random.default_rng([self.settings.seed, step])
        samples, prompts, class_ids = zip(*(self._sample(rng) for _ in range(self.settings.images)), strict=True)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        capture = CaptureSettings(self.image_size, Timestep(t=0))
        generators = [generator] * len(samples)
        clean = self.backbone.encode_images([sample.image for sample in samples], capture, generators)
        draw = normal_draws(clean, generators)
        shares = (SIGMA_SPREAD * torch.randn(len(samples), generator=generator)).sigmoid().tolist()
        scheduler = self.backbone.pipeline.scheduler
        levels: list[NoiseLevel] = [level_of_share(scheduler, share) for share in shares]
        rows = list(zip(levels, clean.split(1), draw.split(1), strict=True))
        streams = [self.backbone.tokenize(prompt) for prompt in prompts]
        return TrainingBatch(
            noised=torch.cat([level.mix(image, noise) for level, image, noise in rows]),
            target=torch.cat([level.target(image, noise) for level, image, noise in rows]),
            timesteps=torch.tensor([level.timestep for level in levels], device=clean.device),
            texts=[prompt.text for prompt in prompts],
            masks=[
                mask
                for row, (sample, tokens, ids) in enumerate(zip(samples, streams, class_ids, strict=True))
                for mask in self._masks(row, sample, tokens, ids)
            ],
            token_columns=[token_columns(tokens) for tokens in streams],
        )

    def _sample(self, rng: np.random.Generator) -> tuple[Sample, Prompt, tuple[int, ...]]:
        """An image that shows a class, its prompt and the classes that it names."""
        settings = self.settings
        rule = PromptRule("names" if settings.asks_names_alone else "described", settings.rules.location)
        for _ in range(TRIES):
            sample = self.task.dataset[int(rng.integers(self.images))]
            groups = self.task.present_prompts(rule, sample).groups if self.task.present_classes(sample) else ()
            if groups and groups[0].class_ids:
                return sample, groups[0].prompt, groups[0].class_ids
        raise UserError(f"none of {TRIES} images of {self.task.dataset.name} shows a class", "name another --dataset")

    def _masks(
        self, row: int, sample: Sample, streams: tuple[StreamTokens, ...], class_ids: tuple[int, ...]
    ) -> list[TargetMask]:
        """A pixel of the grid belongs to a mask that covers at least half of it."""
        label = self.task.merged_label(sample.label)
        if self.settings.targets == "matched":
            ids, areas = np.unique(label[label != IGNORE_LABEL], return_counts=True)
            largest = ids[np.argsort(-areas, kind="stable")][:MOST_MASKS]
            return [TargetMask(row, (), mask) for mask in self._on_grid(label, largest.tolist()) if mask.any()]
        columns, _ = merged_columns(streams)
        pairs = zip(columns, self._on_grid(label, class_ids), strict=True)
        return [TargetMask(row, tuple(own), mask) for own, mask in pairs if own]

    def _on_grid(self, label: NDArray[np.uint8], ids: Sequence[int]) -> Tensor:
        pixels = torch.from_numpy(label.astype(np.int64))
        areas = torch.stack([(pixels == id).float() for id in ids])
        size = (self.grid.height, self.grid.width)
        return (F.interpolate(areas[None], size=size, mode="area")[0] >= 0.5).float()
