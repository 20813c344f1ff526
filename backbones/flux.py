"""Flux: double-stream, then single-stream blocks, one joint attention over text and image, in that order."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site
from .backbone import Backbone
from .latents.noise import NoiseLevel, flow_level, shifted_scheduler
from .latents.settings import CaptureSettings
from .text.conditioning import Conditioning
from .text.tokens import StreamTokens, stream_tokens

PACK = 2


def pack(latent: Tensor) -> Tensor:
    """Pack ``(n, channels, height, width)`` into tokens of 2 x 2 latent pixels, ``(n, pixels / 4, 4 channels)``."""
    return torch.nn.functional.pixel_unshuffle(latent, PACK).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Invert ``pack`` for a latent of ``height`` x ``width``."""
    grid = tokens.transpose(1, 2).unflatten(2, (height // PACK, width // PACK))
    return torch.nn.functional.pixel_shuffle(grid, PACK)


def position_ids(height: int, width: int) -> Tensor:
    """Return the rotary position of every image token, ``(0, row, column)``: float32 ``(height * width, 3)``."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


@BACKBONES.register_module()
class Flux(Backbone):
    """Flux; its text columns are those of T5, padding not masked, and CLIP gives the pooled vector only.

    Sites are the double blocks first, the single blocks after.
    """

    pipeline_class = FluxPipeline
    denoiser_class = FluxTransformer2DModel
    denoiser_part = "transformer"
    dropped_parts = ("feature_extractor", "image_encoder")
    text_first = True

    def __init__(self, *, text_tokens: int, guidance: float, **arguments: Any) -> None:
        """Load with T5 sequences of ``text_tokens``; ``guidance`` is the scale fed to guidance-distilled models."""
        super().__init__(**arguments)
        self.text_tokens = text_tokens
        self.guidance = guidance

    @property
    def patch(self) -> int:
        """Latents are packed 2 x 2."""
        return PACK

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return one site per double block, then one per single block."""
        sites: list[Site] = []
        for stack, out in (("transformer_blocks", ".to_out.0"), ("single_transformer_blocks", None)):
            for index, block in enumerate(getattr(self.pipeline.transformer, stack)):
                module = f"{stack}.{index}.attn"
                projection = None if out is None else module + out
                layer = len(sites)
                sites.append(Site(f"vit-block{layer}", layer, block.attn.heads, grid, module, module, projection))
        return tuple(sites)

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoders."""
        states, pooled, _ = self.pipeline.encode_prompt(
            texts, prompt_2=None, device=self.device, max_sequence_length=self.text_tokens
        )
        return Conditioning({"encoder_hidden_states": states, "pooled_projections": pooled}, states.shape[1])

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in each text stream."""
        return (stream_tokens(self.pipeline.tokenizer_2, prompt, "t5", self.text_tokens),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Resolve the timestep by the flow-matching schedule."""
        tokens = self.grid(settings.image_size).pixels
        if settings.shift_by == "latent-channels":
            tokens = self.vae.config["latent_channels"]
        return flow_level(self.pipeline.scheduler, settings.timestep, tokens, evenly=True)

    def sampling_scheduler(self, steps: int, image_size: int) -> Any:
        """Set evenly spaced noise levels, shifted by the number of image tokens where it is so configured."""
        return shifted_scheduler(self.pipeline.scheduler, steps, self.grid(image_size).pixels, evenly=True)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser."""
        height, width = latent.shape[-2:]
        guidance = None
        if self.denoiser_config["guidance_embeds"]:
            guidance = torch.full((len(latent),), self.guidance, device=latent.device, dtype=torch.float32)
        tokens = self.pipeline.transformer(
            hidden_states=pack(latent),
            timestep=timestep / 1000,
            guidance=guidance,
            # Text has no position.
            txt_ids=latent.new_zeros(conditioning.text_length, 3),
            img_ids=position_ids(height // PACK, width // PACK).to(latent.device, latent.dtype),
            **conditioning.inputs,
            return_dict=False,
        )[0]
        return unpack(tokens, height, width)
