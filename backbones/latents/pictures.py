"""Between pictures and the latents that a denoiser knows: the VAE's, shifted and scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from .noise import normal_draws

TOGETHER, TOGETHER_PIXELS = 100, 100 * 128 * 128
"""Pictures that go through a VAE at once, and pixels of all of them: one of 1024 takes 3 GB."""


def shift_and_scale(vae: AutoencoderKL) -> tuple[float, float]:
    """What is taken off the VAE's own latents, and what they are multiplied by then."""
    return vae.config["shift_factor"] or 0.0, vae.config["scaling_factor"]


def latent_stride(vae: AutoencoderKL) -> int:
    """Image pixels per latent pixel."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def picture_values(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures ``(height, width, 3)`` as float32 ``(n, 3, height, width)`` in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
    """Encode pictures ``(n, 3, height, width)``, each as the mean of its posterior or as a draw by its generator."""
    shift, scale = shift_and_scale(vae)
    posteriors = [vae.encode(part.to(vae.dtype)).latent_dist for part in pictures.split(_together(pictures))]
    latents = torch.cat([posterior.mean.float() for posterior in posteriors])
    if generators is not None:
        deviations = torch.cat([posterior.std.float() for posterior in posteriors])
        latents = latents + deviations * normal_draws(latents, generators)
    return (latents - shift) * scale


def pictures_of(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode latents to pictures, float32 ``(n, 3, height, width)``, about within [-1, 1]."""
    shift, scale = shift_and_scale(vae)
    values = (latents.float() / scale + shift).to(vae.dtype)
    return torch.cat([vae.decode(part).sample.float() for part in values.split(_together(values, latent_stride(vae)))])


def _together(batch: Tensor, stride: int = 1) -> int:
    pixels = stride**2 * batch.shape[-2] * batch.shape[-1]
    return max(1, min(TOGETHER, TOGETHER_PIXELS // pixels))


def white_on_black(masks: Tensor) -> Tensor:
    """Masks ``(n, height, width)`` as pictures, float32 ``(n, 3, height, width)`` in [-1, 1]."""
    return (masks.float() * 2 - 1)[:, None].expand(-1, 3, -1, -1)
