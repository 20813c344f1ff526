"""Stable Diffusion XL: a U-Net with cross-attention to two CLIP text encoders side by side."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .stable_diffusion import StableDiffusion
from .text.conditioning import Conditioning
from .text.tokens import StreamTokens, warn_of_other_tokens


@BACKBONES.register_module()
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL. Both encoders read the same tokens, so their columns coincide.

    Size conditions say that the image is uncropped.
    """

    pipeline_class = StableDiffusionXLPipeline
    dropped_parts = ("feature_extractor", "image_encoder")

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoders."""
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning({"encoder_hidden_states": states, "text_embeds": pooled}, states.shape[1])

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the first encoder; the refiner has the second alone."""
        first = self.pipeline.tokenizer
        return self.pipeline.tokenizer_2 if first is None else first

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in the one stream of both encoders."""
        warn_of_other_tokens(self.tokenizer, self.pipeline.tokenizer_2, prompt.text)
        return super().tokenize(prompt)

    def unconditional(self, count: int) -> Conditioning:
        """Return zeros where the pipeline is configured to, as SDXL's is."""
        conditioning = super().unconditional(count)
        if not self.pipeline.config["force_zeros_for_empty_prompt"]:
            return conditioning
        zeros = {name: torch.zeros_like(value) for name, value in conditioning.inputs.items()}
        return Conditioning(zeros, conditioning.text_length)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser."""
        pooled = conditioning.inputs["text_embeds"]
        height, width = (side * self.latent_stride for side in latent.shape[-2:])
        time_ids = pooled.new_tensor([[height, width, 0, 0, height, width]]).expand(len(latent), -1)
        return self.pipeline.unet(
            latent,
            timestep,
            encoder_hidden_states=conditioning.inputs["encoder_hidden_states"],
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
