"""The pocket twins: the real pipeline classes at a size that trains on a CPU in minutes.

Text may act through attention only, so pooled text vectors are made zero by the shipped weights themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from . import text

SEED = 0
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Twin:
    """How a pocket twin is built and trained."""

    build: Callable[[AutoencoderKL], DiffusionPipeline]
    """Makes a pipeline with an untrained denoiser around an autoencoder."""
    noise: Literal["variance-preserving", "flow"]
    """How clean latents and noise mix."""
    concentration: tuple[float, float]
    """Beta(a, b) from which the noise level in [0, 1] is drawn."""
    learning_rate: float
    """At its highest."""
    steps: int
    """Training steps, of 32 scenes each."""
    decodes_with_shift: bool = True
    """Whether its stock pipeline gives latents the autoencoder's shift back before it decodes them."""


def sd15_denoiser(width: float = 1.0, depth: int = 1) -> UNet2DConditionModel:
    """Build a U-Net with cross-attention to one text encoder.

    Args:
        width: Factor of the channels; the number of heads stays.
        depth: Residual and transformer blocks of every level on the way down.
    """
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(round(32 * width), round(64 * width)),
        layers_per_block=depth,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_sd15(vae: AutoencoderKL) -> StableDiffusionPipeline:
    """Build a U-Net with cross-attention to one CLIP text encoder."""
    tokenizer = text.clip_tokenizer()
    torch.manual_seed(SEED)
    unet = sd15_denoiser()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.clip_encoder(tokenizer, 64, SEED),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            **BETAS, prediction_type="v_prediction", skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sdxl(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """Build a U-Net with cross-attention to two CLIP text encoders."""
    tokenizer = text.clip_tokenizer()
    torch.manual_seed(SEED)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=96,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=64 + 6 * 16,
    )
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text.clip_encoder(tokenizer, 32, SEED),
        text_encoder_2=text.clip_encoder_with_projection(tokenizer, 64, SEED + 1),
        tokenizer=tokenizer,
        tokenizer_2=text.clip_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            **BETAS, prediction_type="v_prediction", steps_offset=1, timestep_spacing="leading"
        ),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def build_pixart_sigma(vae: AutoencoderKL) -> PixArtSigmaPipeline:
    """Build a transformer with cross-attention to T5."""
    tokenizer = text.t5_tokenizer()
    torch.manual_seed(SEED)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        num_layers=7,
        sample_size=16,
        patch_size=1,
        cross_attention_dim=96,
        caption_channels=64,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        use_additional_conditions=False,
    )
    return PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=text.t5_encoder(tokenizer, 64, SEED),
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(**BETAS, prediction_type="v_prediction"),
    )


def sd3_denoiser(width: float = 1.0, depth: int = 6) -> SD3Transformer2DModel:
    """Build a transformer with joint attention.

    Args:
        width: Factor of the channels and of the number of heads.
        depth: Joint blocks.
    """
    heads = round(4 * width)
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=depth,
        attention_head_dim=24,
        num_attention_heads=heads,
        joint_attention_dim=96,
        caption_projection_dim=24 * heads,
        pooled_projection_dim=96,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )


def build_sd3(vae: AutoencoderKL) -> StableDiffusion3Pipeline:
    """Build a transformer with joint attention and two CLIP text encoders."""
    tokenizer, tokenizer_2 = text.clip_tokenizer(), text.clip_tokenizer()
    torch.manual_seed(SEED)
    transformer = sd3_denoiser()
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=text.clip_encoder_with_projection(tokenizer, 32, SEED),
        tokenizer=tokenizer,
        text_encoder_2=text.clip_encoder_with_projection(tokenizer_2, 64, SEED + 1),
        tokenizer_2=tokenizer_2,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def build_flux(vae: AutoencoderKL) -> FluxPipeline:
    """Build double and single blocks with joint attention to T5."""
    tokenizer, tokenizer_2 = text.clip_tokenizer(), text.t5_tokenizer()
    torch.manual_seed(SEED)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=3,
        num_single_layers=4,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=64,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 10, 10),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_image_seq_len=256, max_image_seq_len=4096
        ),
        vae=vae,
        text_encoder=text.pooled_only_clip_encoder(tokenizer, 32, SEED),
        tokenizer=tokenizer,
        text_encoder_2=text.t5_encoder(tokenizer_2, 64, SEED),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


TWINS: dict[str, Twin] = {
    "pocket-sd15": Twin(build_sd15, "variance-preserving", (2.0, 1.2), 2e-3, 2000, False),
    "pocket-sdxl": Twin(build_sdxl, "variance-preserving", (2.0, 1.2), 2e-3, 2000, False),
    "pocket-pixart-sigma": Twin(build_pixart_sigma, "variance-preserving", (2.0, 1.4), 2e-3, 1100, False),
    "pocket-sd3": Twin(build_sd3, "flow", (2.0, 1.4), 1e-3, 1500),
    "pocket-flux": Twin(build_flux, "flow", (2.0, 1.4), 1.5e-3, 1500),
}
