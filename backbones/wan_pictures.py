"""A pipeline of Wan's transformer around an autoencoder of pictures."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

from .latents.pictures import latent_stride, pictures_of


class WanPicturePipeline(DiffusionPipeline):
    """Generates pictures, each a video of one frame; diffusers' own Wan pipelines take an autoencoder of videos."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"

    def __init__(
        self,
        tokenizer: T5Tokenizer,
        text_encoder: T5EncoderModel,
        vae: AutoencoderKL,
        transformer: WanTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        """Keep the parts."""
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )

    @torch.no_grad()
    def encode_prompt(self, texts: list[str], length: int) -> Tensor:
        """Encode texts, ``(n, length, width)``; rows of padding are zero, as in Wan."""
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        tokens = tokens.to(self._execution_device)
        states = self.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return states * tokens.attention_mask[..., None].to(states.dtype)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        height: int = 64,
        width: int = 64,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: Literal["pil", "latent"] = "pil",
    ) -> ImagePipelineOutput:
        """Generate a picture of every prompt; a guidance above 1 leads away from the empty one."""
        texts = [prompt] if isinstance(prompt, str) else prompt
        guided = guidance_scale > 1
        states = self.encode_prompt([""] * len(texts) * guided + texts, self.tokenizer.model_max_length)
        device, dtype, config = self._execution_device, self.transformer.dtype, self.vae.config
        stride = latent_stride(self.vae)
        shape = (len(texts), config["latent_channels"], 1, height // stride, width // stride)
        latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            rows = torch.cat([latents, latents]) if guided else latents
            inputs = {"timestep": timestep.expand(len(rows)), "encoder_hidden_states": states.to(dtype)}
            velocity = self.transformer(rows, **inputs, return_dict=False)[0]
            if guided:
                empty, prompted = velocity.chunk(2)
                velocity = empty + guidance_scale * (prompted - empty)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return ImagePipelineOutput(latents[:, :, 0].numpy(force=True))
        pictures = pictures_of(self.vae, latents[:, :, 0])
        images: list[Image] = VaeImageProcessor().postprocess(pictures, output_type="pil")  # pyright: ignore[reportAssignmentType]
        return ImagePipelineOutput(images)
