"""PixArt-Sigma: a diffusion transformer with cross-attention to T5, padding masked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel
from torch import Tensor

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site, cross_attention_sites
from .backbone import Backbone
from .latents.noise import NoiseLevel, diffusion_level
from .latents.settings import CaptureSettings
from .text.conditioning import MASK, Conditioning
from .text.tokens import StreamTokens, stream_tokens


@BACKBONES.register_module()
class PixArtSigma(Backbone):
    """PixArt-Sigma. The pipeline lower-cases its prompts, so tokens follow that."""

    pipeline_class = PixArtSigmaPipeline
    denoiser_class = PixArtTransformer2DModel
    denoiser_part = "transformer"

    def __init__(self, *, text_tokens: int, **arguments: Any) -> None:
        """Load with T5 sequences of ``text_tokens``, 300 for Sigma."""
        super().__init__(**arguments)
        self.text_tokens = text_tokens

    @property
    def patch(self) -> int:
        """As the transformer is configured."""
        return self.denoiser_config["patch_size"]

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return one site per block."""
        heads = (block.attn2.heads for block in self.pipeline.transformer.transformer_blocks)
        return cross_attention_sites("transformer_blocks", heads, grid)

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoders."""
        states, mask, _, _ = self.pipeline.encode_prompt(
            texts, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.text_tokens
        )
        return Conditioning({"encoder_hidden_states": states, MASK: mask}, states.shape[1])

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in each text stream."""
        lowered = replace(prompt, text=prompt.text.lower())
        return (stream_tokens(self.pipeline.tokenizer, lowered, "t5", self.text_tokens),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Resolve the timestep by the variance-preserving schedule."""
        return diffusion_level(self.pipeline.scheduler, settings.timestep)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser."""
        size = {"resolution": None, "aspect_ratio": None}
        # Where its config says nothing, diffusers decides by the size.
        if self.denoiser.use_additional_conditions:
            height, width = (side * self.latent_stride for side in latent.shape[-2:])
            size = {
                "resolution": latent.new_tensor([[height, width]]).expand(len(latent), -1),
                "aspect_ratio": latent.new_tensor([[height / width]]).expand(len(latent), -1),
            }
        output = self.pipeline.transformer(
            latent,
            timestep=timestep.to(torch.long),
            added_cond_kwargs=size,
            **conditioning.inputs,
            return_dict=False,
        )[0]
        return output.chunk(2, dim=1)[0] if output.shape[1] == 2 * latent.shape[1] else output
