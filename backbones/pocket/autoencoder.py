"""The autoencoder that all pocket twins share: AutoencoderKL, downsample 4, four latent channels."""

from __future__ import annotations

import copy
import logging
import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

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


def fold_shift(vae: AutoencoderKL) -> AutoencoderKL:
    """Return a copy whose weights subtract and add the latent shift, so that its ``shift_factor`` is 0.

    The pipelines of SD 1.5, SDXL and PixArt decode latents without a shift. Scaled latents and decoded images stay the
    same: the shift goes into the biases of the 1 x 1 convolutions that are next to the latent.
    """
    shift = vae.config["shift_factor"] or 0.0
    folded = copy.deepcopy(vae)
    encoding, decoding = folded.get_submodule("quant_conv"), folded.get_submodule("post_quant_conv")
    with torch.no_grad():
        # The first half of the moments is the mean.
        encoding.bias[: vae.config["latent_channels"]] -= shift
        decoding.bias += shift * decoding.weight.sum((1, 2, 3))
    folded.register_to_config(shift_factor=0.0)
    return folded


def halved(vae: AutoencoderKL) -> AutoencoderKL:
    """Return a copy in half precision but for the biases that may hold the shift, so that latents stay the same."""
    half = copy.deepcopy(vae).half()
    for name in ("quant_conv", "post_quant_conv"):
        half.get_submodule(name).bias = nn.Parameter(vae.get_submodule(name).bias.float(), requires_grad=False)
    return half


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
