"""Stable Diffusion 3 and 3.5: MM-DiT, one joint attention over image and text, in that order."""

from __future__ import annotations

from typing import Any, Self

from diffusers import DiffusionPipeline, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor

from segscale.prompt import Prompt
from segscale.registry import BACKBONES

from .attention.sites import Grid, Site
from .backbone import Backbone
from .latents.noise import NoiseLevel, flow_level, shifted_scheduler
from .latents.settings import CaptureSettings
from .text.conditioning import Conditioning
from .text.tokens import StreamTokens, stream_tokens, warn_of_other_tokens


@BACKBONES.register_module()
class StableDiffusion3(Backbone):
    """Stable Diffusion 3; its text columns are those of both CLIP encoders (same tokens, same columns), then of T5.

    SD3.5's second, image-only attention is a site of its own, ``vit-block<i>-dual``.
    """

    pipeline_class = StableDiffusion3Pipeline
    denoiser_class = SD3Transformer2DModel
    denoiser_part = "transformer"
    dropped_parts = ("feature_extractor", "image_encoder")

    def __init__(self, *, t5_tokens: int, with_t5: bool, zero_rows: bool = True, **arguments: Any) -> None:
        """Load with T5 sequences of ``t5_tokens``.

        Without T5 its columns are zero rows, ordinary unmasked keys of every softmax, as in the released pipeline,
        unless ``zero_rows`` is False: then the denoiser gets the CLIP rows alone.
        """
        if not with_t5:
            self.dropped_parts += ("text_encoder_3", "tokenizer_3")
        super().__init__(**arguments)
        self.t5_tokens = t5_tokens
        self.zero_rows = zero_rows
        # Asked once: encoders may be freed, and what they encoded stays in use.
        self.has_t5 = self.pipeline.text_encoder_3 is not None

    @classmethod
    def around(cls, pipeline: DiffusionPipeline) -> Self:
        """Decide by its encoder whether a pipeline has T5, as it does itself; its tokenizer may stay without it."""
        backbone = super().around(pipeline)
        backbone.has_t5 = getattr(pipeline, "text_encoder_3", None) is not None
        return backbone

    @property
    def patch(self) -> int:
        """As the transformer is configured."""
        return self.denoiser_config["patch_size"]

    @property
    def largest_size(self) -> int:
        """The extent of the position embeddings."""
        return self.latent_stride * self.patch * self.denoiser_config["pos_embed_max_size"]

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return the joint site of every block, and its dual one where it has one."""
        sites: list[Site] = []
        for index, block in enumerate(self.pipeline.transformer.transformer_blocks):
            module = f"transformer_blocks.{index}"
            joint = f"{module}.attn"
            sites.append(
                Site(f"vit-block{index}", len(sites), block.attn.heads, grid, joint, joint, f"{joint}.to_out.0")
            )
            if block.attn2 is not None:
                dual = f"vit-block{index}-dual"
                sites.append(Site(dual, len(sites), block.attn2.heads, grid, None, f"{module}.attn2"))
        return tuple(sites)

    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode with the pipeline's own encoders."""
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.t5_tokens,
        )
        if not self.has_t5 and not self.zero_rows:
            states = states[:, : self.pipeline.tokenizer.model_max_length]
        return Conditioning({"encoder_hidden_states": states, "pooled_projections": pooled}, states.shape[1])

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the words in each text stream."""
        clip_tokens = self.pipeline.tokenizer.model_max_length
        warn_of_other_tokens(self.pipeline.tokenizer, self.pipeline.tokenizer_2, prompt.text)
        streams = (stream_tokens(self.pipeline.tokenizer, prompt, "clip", clip_tokens),)
        if not self.has_t5:
            return streams
        return (*streams, stream_tokens(self.pipeline.tokenizer_3, prompt, "t5", self.t5_tokens, clip_tokens))

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Resolve the timestep by the flow-matching schedule."""
        return flow_level(self.pipeline.scheduler, settings.timestep, self.grid(settings.image_size).pixels)

    def sampling_scheduler(self, steps: int, image_size: int) -> Any:
        """Set the scheduler's own noise levels, shifted by the number of image tokens where it is so configured."""
        return shifted_scheduler(self.pipeline.scheduler, steps, self.grid(image_size).pixels)

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser."""
        return self.pipeline.transformer(latent, timestep=timestep, **conditioning.inputs, return_dict=False)[0]
