"""Wan's diffusion transformer on pictures, taught to draw masks beside a clean picture (GenMask, arXiv 2603.23906)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site, cross_attention_sites
from .backbone import Backbone
from .latents.noise import NoiseLevel, flow_level
from .latents.settings import CaptureSettings
from .text.conditioning import Conditioning
from .text.tokens import StreamTokens, stream_tokens
from .wan_pictures import WanPicturePipeline

FLOW_STEPS = 1000
"""What the transformer counts pure noise as."""


@BACKBONES.register_module()
class WanMasks(Backbone):
    """Wan's transformer as GenMask trains it.

    A picture is a video of one frame. A mask is the second frame of a video whose first is the clean picture: their
    tokens stand side by side in self-attention, and those of the picture are modulated at time 0.
    """

    pipeline_class = WanPicturePipeline
    denoiser_class = WanTransformer3DModel
    denoiser_part = "transformer"
    draws_masks = True

    def __init__(self, *, text_tokens: int, **arguments: Any) -> None:
        """Load with T5 sequences of ``text_tokens``."""
        super().__init__(**arguments)
        self.text_tokens = text_tokens

    @property
    def patch(self) -> int:
        """As the transformer is configured."""
        return self.denoiser_config["patch_size"][1]

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return one site per block, as it sees a picture alone."""
        heads = (block.attn2.heads for block in self.pipeline.transformer.blocks)
        return cross_attention_sites("blocks", heads, grid)

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoder."""
        states = self.pipeline.encode_prompt(texts, self.text_tokens)
        return Conditioning({"encoder_hidden_states": states}, states.shape[1])

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in the text stream."""
        return (stream_tokens(self.pipeline.tokenizer, prompt, "t5", self.text_tokens),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Resolve the timestep by the flow-matching schedule."""
        return flow_level(self.pipeline.scheduler, settings.timestep, self.grid(settings.image_size).pixels)

    def mask_latent(self, picture: Tensor, draw: Tensor, /) -> Tensor:
        """Put pure noise beside clean pictures, ``(n, channels, 2, height, width)``."""
        return torch.stack([picture, draw], dim=2)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser on pictures ``(n, channels, height, width)``, or on masks beside clean ones.

        Args:
            latent: Pictures, or ``(n, channels, 2, height, width)`` as ``mask_latent`` makes them.
            timestep: Of what is drawn, ``(n,)``.
            conditioning: A row for each.

        Returns:
            The velocity of what is drawn, ``(n, channels, height, width)``.
        """
        frames = latent if latent.ndim == 5 else latent[:, :, None]
        if latent.ndim == 5:
            timestep = self._beside_clean(timestep, frames)
        answer = self.pipeline.transformer(frames, timestep, **conditioning.inputs, return_dict=False)[0]
        return answer[:, :, -1]

    def _beside_clean(self, timestep: Tensor, frames: Tensor) -> Tensor:
        """The time of every token: 0 of the clean picture's, then that of the mask's."""
        tokens = frames.shape[-1] * frames.shape[-2] // self.patch**2
        drawn = timestep[:, None].expand(-1, tokens)
        return torch.cat([torch.zeros_like(drawn), drawn], dim=1)
