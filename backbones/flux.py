"""Flux: double-stream, then single-stream blocks, one joint attention over text and image, in that order."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site
from .backbone import Backbone, Conditioning
from .latents.noise import NoiseLevel, flow_level
from .latents.settings import CaptureSettings
from .text.tokens import StreamTokens, stream_tokens

PACK = 2


def pack(latent: Tensor) -> Tensor:
    """``(n, channels, height, width)`` to tokens of 2 x 2 latent pixels, ``(n, pixels / 4, 4 channels)``."""
    return torch.nn.functional.pixel_unshuffle(latent, PACK).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``pack`` for a latent of ``height`` x ``width``."""
    grid = tokens.transpose(1, 2).unflatten(2, (height // PACK, width // PACK))
    return torch.nn.functional.pixel_shuffle(grid, PACK)


def position_ids(height: int, width: int) -> Tensor:
    """Rotary position of every image token: ``(0, row, column)``, float32 ``(height * width, 3)``."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


@BACKBONES.register_module()
class Flux(Backbone):
    """Text columns: ``text_tokens`` of T5, padding not masked; CLIP gives the pooled vector only.

    guidance: the scale fed to guidance-distilled models. Sites: double blocks first, single blocks after.
    """

    pipeline_class = FluxPipeline
    denoiser_class = FluxTransformer2DModel
    denoiser_part = "transformer"
    dropped_parts = ("feature_extractor", "image_encoder")
    text_first = True

    def __init__(self, text_tokens: int, guidance: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.text_tokens = text_tokens
        self.guidance = guidance

    @property
    def patch(self) -> int:
        return PACK

    def _grid(self, image_size: int) -> Grid:
        side = image_size // self.latent_stride // PACK
        return Grid(side, side)

    def sites(self, image_size: int) -> tuple[Site, ...]:
        transformer, grid = self.pipeline.transformer, self._grid(image_size)
        sites: list[Site] = []
        for index, block in enumerate(transformer.transformer_blocks):
            module = f"transformer_blocks.{index}.attn"
            projection = f"{module}.to_out.0"
            sites.append(Site(f"vit-block{len(sites)}", len(sites), block.attn.heads, grid, module, module, projection))
        for index, block in enumerate(transformer.single_transformer_blocks):
            module = f"single_transformer_blocks.{index}.attn"
            sites.append(Site(f"vit-block{len(sites)}", len(sites), block.attn.heads, grid, module, module))
        return tuple(sites)

    def encode_text(self, texts: list[str]) -> Conditioning:
        states, pooled, text_ids = self.pipeline.encode_prompt(
            texts, prompt_2=None, device=self.device, max_sequence_length=self.text_tokens
        )
        inputs = {"encoder_hidden_states": states, "pooled_projections": pooled, "txt_ids": text_ids}
        return Conditioning(inputs, states.shape[1])

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        return (stream_tokens(self.pipeline.tokenizer_2, prompt, "t5", self.text_tokens),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        tokens = self._grid(settings.image_size).pixels
        if settings.shift_by == "latent-channels":
            tokens = self.vae.config["latent_channels"]
        return flow_level(self.pipeline.scheduler, settings.timestep, tokens)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        height, width = latent.shape[-2:]
        guidance = None
        if self.denoiser_config["guidance_embeds"]:
            guidance = torch.full((len(latent),), self.guidance, device=latent.device, dtype=torch.float32)
        tokens = self.pipeline.transformer(
            hidden_states=pack(latent),
            timestep=timestep / 1000,
            guidance=guidance,
            img_ids=position_ids(height // PACK, width // PACK).to(latent.device, latent.dtype),
            **conditioning.inputs,
            return_dict=False,
        )[0]
        return unpack(tokens, height, width)
