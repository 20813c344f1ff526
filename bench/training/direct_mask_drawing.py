"""Draws masks from pure noise, and measures them and what the training did to pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...backbones.latents.noise import image_generator, normal_draws
from ...backbones.pocket.direct_masks import NAME
from ...backbones.wan import FLOW_STEPS, WanMasks
from ..evaluation.metrics import Floats
from ..evaluation.pixel_counts import PixelCounts
from ..generation.choices import SamplingChoices
from ..generation.fidelity import named_objects
from ..generation.judge import Judge
from ..generation.prompts import PicturePrompt
from ..generation.rules import guidance_rule
from ..generation.sampling import draw
from ..generation.settings import sampling_settings
from .direct_mask_scenes import MaskScenes, PromptedMasks, grey_of

ROWS = 50
Rows = tuple[tuple[int, int, int], ...]
"""Three counts of every scene."""
PICTURE_LEVELS = (0.2, 0.4, 0.6, 0.8)


@torch.no_grad()
def drawn_masks(backbone: WanMasks, asked: PromptedMasks, steps: int = 1, image_tokens: bool = True) -> Tensor:
    """Draw the mask of every text, by Euler steps of equal length from pure noise.

    Returns:
        Float32 ``(n, height, width)``, about 1 in a mask and 0 outside.
    """
    latents = _noise(asked.pictures, "masks")
    parts: list[Tensor] = []
    for start in range(0, len(latents), ROWS):
        rows = slice(start, start + ROWS)
        conditioning = backbone.encode_text(asked.texts[rows])
        latent = latents[rows]
        for step in range(steps):
            beside = backbone.mask_latent(asked.pictures[rows], latent) if image_tokens else latent
            timestep = torch.full((len(latent),), FLOW_STEPS * (1 - step / steps))
            latent = latent - backbone.denoise(beside, timestep, conditioning) / steps
        parts.append(grey_of(backbone.vae, latent))
    return torch.cat(parts)


def areas_by_scene(drawn: Tensor, asked: PromptedMasks) -> PixelCounts:
    """Areas of masks, summed over the texts of a scene: ``(scenes, 1)``; a pixel is in a mask from one half on."""
    found, meant = (drawn > 0.5).numpy(), asked.masks
    places = np.unique(asked.scenes, return_inverse=True)[1]
    areas = np.zeros((3, places.max() + 1), np.int64)
    for row, masks in zip(areas, (found & meant, found, meant), strict=True):
        np.add.at(row, places, masks.sum((1, 2)))
    return PixelCounts(*(row[:, None] for row in areas))


@torch.no_grad()
def picture_losses(backbone: WanMasks, scenes: MaskScenes) -> Floats:
    """How well pictures are drawn: the squared error of the velocity at four noise levels, mean per plain scene."""
    latents, captions = scenes.every_caption
    draws = _noise(latents, "pictures")
    losses = np.zeros(len(latents))
    for start in range(0, len(latents), ROWS):
        rows = slice(start, start + ROWS)
        conditioning = backbone.encode_text(captions[rows])
        for sigma in PICTURE_LEVELS:
            noised = torch.lerp(latents[rows], draws[rows], sigma)
            timestep = torch.full((len(noised),), FLOW_STEPS * sigma)
            error = backbone.denoise(noised, timestep, conditioning) - (draws[rows] - latents[rows])
            losses[rows] += error.square().mean((1, 2, 3)).double().numpy() / len(PICTURE_LEVELS)
    return losses


def picture_objects(backbone: WanMasks, scenes: MaskScenes, judge: Judge) -> Rows:
    """How well captions are followed: a picture of every plain scene's caption, with the sampling of the twin's config.

    Returns:
        Of every picture, how many objects are both named and shown, named, and shown.
    """
    prompts = [PicturePrompt(str(number), text) for number, text in enumerate(scenes.every_caption[1])]
    settings = sampling_settings(NAME, SamplingChoices())
    guidance = guidance_rule(settings, backbone)
    batches = (prompts[start : start + ROWS] for start in range(0, len(prompts), ROWS))
    shown = judge.see([picture for batch in batches for picture in draw(backbone, batch, settings, guidance)]).objects
    named = named_objects(prompt.text for prompt in prompts)
    return rows_of(flags.sum(1) for flags in (named & shown, named, shown))


def rows_of(columns: Iterable[NDArray[np.integer]]) -> Rows:
    """Three counts of every scene, of as many columns."""
    return tuple(zip(*(column.tolist() for column in columns), strict=True))


def _noise(like: Tensor, name: str) -> Tensor:
    """Noise of every row, by its place."""
    return normal_draws(like, [image_generator(0, name, str(number)) for number in range(len(like))])
