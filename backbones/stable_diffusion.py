"""Stable Diffusion 1.x: a U-Net with cross-attention to one CLIP text encoder."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site
from .backbone import Backbone
from .latents.noise import NoiseLevel, diffusion_level
from .latents.settings import CaptureSettings
from .text.conditioning import Conditioning
from .text.tokens import StreamTokens, stream_tokens
from .unet import unet_sites


@BACKBONES.register_module()
class StableDiffusion(Backbone):
    """Stable Diffusion 1; its text columns are CLIP's start token, words, end and padding, which is not masked."""

    pipeline_class = StableDiffusionPipeline
    denoiser_class = UNet2DConditionModel
    denoiser_part = "unet"
    dropped_parts = ("safety_checker", "feature_extractor", "image_encoder")

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return the sites of the U-Net."""
        return unet_sites(self.pipeline.unet, grid)

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoders."""
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states = self.pipeline.text_encoder(ids.to(self.device))[0]
        return Conditioning({"encoder_hidden_states": states}, states.shape[1])

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What text is read by."""
        return self.pipeline.tokenizer

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in each text stream."""
        return (stream_tokens(self.tokenizer, prompt, "clip", self.tokenizer.model_max_length),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Resolve the timestep by the variance-preserving schedule."""
        return diffusion_level(self.pipeline.scheduler, settings.timestep)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser."""
        return self.pipeline.unet(latent, timestep.to(torch.long), **conditioning.inputs, return_dict=False)[0]
