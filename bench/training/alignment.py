"""Mask alignment (Seg4Diff's MAGNET, arXiv 2509.18096): a LoRA that makes one block's text scores follow masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segscale.errors import UserError

from ...backbones.attention.scores import denoise_with_scores
from ...backbones.attention.sites import Site
from ...backbones.backbone import Backbone
from ...backbones.inputs import DenoiserInput
from ...backbones.loading.lora import Lora, add_lora, lora_tensors
from .batches import TargetMask, TrainingBatch
from .matching import matched
from .objectives import dice_loss, focal_loss
from .settings import GRADIENT_NORM, WEIGHT_DECAY, AlignmentSettings

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTION_WIDTH = 64
FIRST_LOSS_SCALE = 2.0**12
"""Of float16; it is halved where a gradient is too large, and that step is left out."""


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, without their weights."""

    denoising: float
    focal: float
    dice: float


class Alignment:
    """A denoiser with its LoRA, the small network beside it, and the optimiser of both."""

    def __init__(self, backbone: Backbone, site: Site, sites: Sequence[Site], settings: AlignmentSettings) -> None:
        """Add the LoRA; a seed decides all first weights.

        Args:
            backbone: What is trained.
            site: The expert block.
            sites: All blocks.
            settings: How.
        """
        self.backbone, self.site, self.settings = backbone, site, settings
        names = adapted_layers(backbone.denoiser, sites if settings.rules.every_block else [site])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.parameters = add_lora(backbone.denoiser, names, settings.rank, settings.rank)
            self.head = _convolution().to(backbone.device) if settings.rules.convolution else nn.Identity()
        groups: list[dict[str, Any]] = [{"params": self.parameters, "lr": settings.learning_rate}]
        if head := [*self.head.parameters()]:
            groups.append({"params": head, "lr": settings.head_learning_rate})
        self.optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        # Gradients of a mean over millions of latent pixels are below what float16 can hold.
        is_half = backbone.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(backbone.device.type, init_scale=FIRST_LOSS_SCALE, enabled=is_half)
        self.highest_rates = [group["lr"] for group in groups]

    @property
    def lora(self) -> Lora:
        """The LoRA as it is now."""
        taught = "labels" if self.settings.targets == "named" else "masks"
        return Lora(lora_tensors(self.backbone.denoiser), self.settings.rank, float(self.settings.rank), taught)

    @property
    def trained(self) -> list[nn.Parameter]:
        """Everything that is trained, in the optimiser's order."""
        return [*self.parameters, *self.head.parameters()]

    def step(self, number: int, batch: TrainingBatch) -> StepLosses:
        """Learn from the batch of step ``number``, counted from 0."""
        for group, highest in zip(self.optimiser.param_groups, self.highest_rates, strict=True):
            group["lr"] = highest * rate_share(number, self.settings)
        denoising, focal, dice = self._losses(batch)
        self.optimiser.zero_grad()
        self.scaler.scale(denoising + self.settings.focal * focal + self.settings.dice * dice).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.trained, GRADIENT_NORM)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            problem = f"gradients are not finite at any loss scale, up to step {number}"
            raise UserError(problem, "lower --learning-rate, or use --dtype float32")
        losses = StepLosses(denoising.item(), focal.item(), dice.item())
        if not math.isfinite(losses.denoising + losses.focal + losses.dice):
            raise UserError(f"the loss of step {number} is not finite", "lower --learning-rate, or use --dtype float32")
        return losses

    def _losses(self, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
        inputs = DenoiserInput(batch.noised, batch.timesteps, self.backbone.conditioning(batch.texts))
        output, scores = denoise_with_scores(self.backbone, self.site, inputs, self.settings.targets == "named")
        denoising = F.mse_loss(output.float(), batch.target)
        if not batch.masks:
            return denoising, denoising.new_zeros(()), denoising.new_zeros(())
        grid, raw = self.site.grid, self.settings.rules.raw_focal
        masks = torch.stack([each.mask for each in batch.masks]).to(scores.device)
        if self.settings.targets == "matched":
            unmasked = inputs.conditioning.unmasked
            read = [sorted(unmasked(row).intersection(columns)) for row, columns in enumerate(batch.token_columns)]
            maps = matched_maps(scores, batch.masks, masks, read, raw)
        else:
            maps = named_maps(scores, batch)
        logits = self.head(maps.unflatten(1, (1, grid.height, grid.width)))[:, 0]
        return denoising, focal_loss(logits, masks, raw), dice_loss(logits, masks)


def named_maps(scores: Tensor, batch: TrainingBatch) -> Tensor:
    """The mean over each class's token columns, ``(masks, pixels)``."""
    return torch.stack([scores[each.row, 0][:, list(each.columns)].mean(-1) for each in batch.masks])


def matched_maps(
    scores: Tensor, targets: Sequence[TargetMask], masks: Tensor, columns: Sequence[list[int]], raw: bool
) -> Tensor:
    """The map of a head and token that each mask is matched with, ``(masks, pixels)``.

    Args:
        scores: ``(n, heads, pixels, columns)``.
        targets: Whose they are, in the order of images.
        masks: Of ``targets``, ``(masks, height, width)``.
        columns: Of every image, those that are candidates.
        raw: As of ``focal_loss``.
    """
    maps: list[Tensor] = []
    for row, of_row in enumerate(scores):
        candidates = of_row[:, :, columns[row]].transpose(1, 2).flatten(0, 1)
        own = [place for place, each in enumerate(targets) if each.row == row]
        maps += [candidates[index] for index in matched(candidates, masks[own].flatten(1), raw)]
    return torch.stack(maps)


def adapted_layers(denoiser: nn.Module, sites: Sequence[Site]) -> list[str]:
    """Names of the layers of the image stream: of joint and of self-attention all, of cross-attention those of pixels.

    Blocks that have no out projection of their own go without.
    """
    layers = {name for name, module in denoiser.named_modules() if isinstance(module, nn.Linear)}
    wanted: list[str] = []
    for site in sites:
        if site.pixel_module is not None:
            wanted += [f"{site.pixel_module}.{name}" for name in ADAPTED]
        if site.text_module not in (None, site.pixel_module):
            wanted += [f"{site.text_module}.{name}" for name in ("to_q", "to_out.0")]
    return [name for name in wanted if name in layers]


def rate_share(step: int, settings: AlignmentSettings) -> float:
    """What share of the highest learning rate a step has: a linear warm-up, then a cosine to 0."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    rest = max(settings.steps - settings.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - settings.warm_up) / rest, 1)))


def _convolution() -> nn.Module:
    """Three layers of 3 x 3, 1-64-64-1; what is between them is not published, and is a ReLU here."""
    width = CONVOLUTION_WIDTH
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1),
    )
