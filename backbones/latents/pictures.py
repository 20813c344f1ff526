"""Between pictures and the latents that a denoiser knows: the VAE's, shifted and scaled."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

TOGETHER = 100
"""Pictures that go through a VAE at once."""


def shift_and_scale(vae: AutoencoderKL) -> tuple[float, float]:
    """What is taken off the VAE's own latents, and what they are multiplied by then."""
    return vae.config["shift_factor"] or 0.0, vae.config["scaling_factor"]


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Encode pictures ``(n, 3, height, width)`` in [-1, 1], each as the mean of its posterior."""
    shift, scale = shift_and_scale(vae)
    encoded = [vae.encode(part.to(vae.dtype)).latent_dist.mean.float() for part in pictures.split(TOGETHER)]
    return (torch.cat(encoded) - shift) * scale


def pictures_of(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode latents to pictures, float32 ``(n, 3, height, width)``, about within [-1, 1]."""
    shift, scale = shift_and_scale(vae)
    values = (latents.float() / scale + shift).to(vae.dtype)
    return torch.cat([vae.decode(part).sample.float() for part in values.split(TOGETHER)])


def white_on_black(masks: Tensor) -> Tensor:
    """Masks ``(n, height, width)`` as pictures, float32 ``(n, 3, height, width)`` in [-1, 1]."""
    return (masks.float() * 2 - 1)[:, None].expand(-1, 3, -1, -1)
