"""The autoencoder that all pocket twins share: AutoencoderKL, downsample 4, four latent channels."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .scenes import scene_batch

log = logging.getLogger(__name__)

STEPS = 1400
BATCH = 24
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-6


def build_autoencoder() -> AutoencoderKL:
    """Build the untrained autoencoder; images ``(n, 3, 64, 64)`` become latents ``(n, 4, 16, 16)``."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def train_autoencoder(steps: int = STEPS, seed: int = 0) -> AutoencoderKL:
    """Train on generated scenes with a cosine step size, then set the latent shift and scale."""
    torch.manual_seed(seed)
    vae = build_autoencoder().train()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4, betas=(0.9, 0.99))
    for step in range(steps):
        progress = step / steps
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * math.cos(progress * math.pi / 2) ** 2
        images, _ = scene_batch(range(step * BATCH, (step + 1) * BATCH))
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        loss = F.l1_loss(decoded, images) + F.mse_loss(decoded, images) + KL_WEIGHT * posterior.kl().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 99:
            psnr = 10 * math.log10(4 / F.mse_loss(decoded, images).item())
            log.info("autoencoder step %d of %d, %.1f dB", step + 1, steps, psnr)
    vae.eval().requires_grad_(False)
    latents = vae.encode(scene_batch(range(10_000_000, 10_000_256))[0]).latent_dist.mean
    vae.register_to_config(
        shift_factor=round(latents.mean().item(), 4), scaling_factor=round(1 / latents.std().item(), 4)
    )
    return vae
