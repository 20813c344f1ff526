"""Draws pictures: the backbone's own text encoders, denoiser, scheduler and autoencoder, and one guidance rule.

The loop is that of the diffusers pipelines; a test holds it to their pictures. It is written out because a rule needs
both predictions, and the maps of both, at every step, and because a pipeline would take one guidance for all.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from segscale.prompt import Prompt

from ...backbones.backbone import Backbone
from ...backbones.inputs import DenoiserInput
from ...backbones.latents.images import images_of
from ...backbones.latents.noise import image_generator, normal_draws
from ...backbones.latents.pictures import pictures_of
from ...backbones.text.conditioning import Conditioning
from .guidance import Guidance, GuidedStep
from .prompts import PicturePrompt
from .record import SamplingSettings

NOISE_OF = "picture"
"""Takes the place of a dataset's name in the seed of the noise: equal prompt ids get equal noise everywhere."""


@torch.no_grad()
def draw(
    backbone: Backbone, prompts: Sequence[PicturePrompt], settings: SamplingSettings, guidance: Guidance
) -> list[Image]:
    """Draw a picture for every prompt, all in one batch.

    The noise of a picture follows from seed and prompt id, or from the seed alone: it depends on no batch and no order.

    Args:
        backbone: Loaded.
        prompts: One batch.
        settings: Size, steps, seed.
        guidance: The rule, as of ``guidance_rule``.

    Raises:
        UserError: For a size that the architecture cannot take.
    """
    backbone.check_size(settings.image_size)
    return images_of(pictures_of(backbone.vae, _Batch(backbone, prompts, settings, guidance).sampled()))


class _Batch:
    """The sampling of one batch."""

    def __init__(
        self, backbone: Backbone, prompts: Sequence[PicturePrompt], settings: SamplingSettings, guidance: Guidance
    ) -> None:
        self.backbone, self.settings, self.guidance = backbone, settings, guidance
        self.prompts = [Prompt(prompt.text, ()) for prompt in prompts]
        self.conditional = backbone.conditioning([prompt.text for prompt in prompts])
        self.request = guidance.request(backbone, settings.image_size)
        noise_of = ["" if settings.shared_noise else prompt.id for prompt in prompts]
        self.generators = [image_generator(settings.seed, NOISE_OF, name) for name in noise_of]
        self.scheduler = backbone.sampling_scheduler(settings.steps, settings.image_size)

    def sampled(self) -> Tensor:
        """Scaled latents without noise, float32."""
        latents = self._initial()
        extra = self._step_arguments()
        for timestep in self.scheduler.timesteps:
            prediction = self.guidance(self._step(timestep, latents))
            latents = self.scheduler.step(prediction, timestep, latents, return_dict=False, **extra)[0]
        return latents

    def _initial(self) -> Tensor:
        backbone, side = self.backbone, self.settings.image_size // self.backbone.latent_stride
        shape = (1, backbone.vae.config["latent_channels"], side, side)
        noise = normal_draws(torch.empty(shape, device=backbone.device), self.generators)
        # Flow-matching schedulers start at plain noise and state no factor.
        return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def _step_arguments(self) -> dict[str, Any]:
        """Generators, for schedulers that draw noise at every step."""
        takes = inspect.signature(self.scheduler.step).parameters
        return {"generator": self.generators} if "generator" in takes else {}

    def _step(self, timestep: Tensor, latents: Tensor) -> GuidedStep:
        scaled = latents
        if hasattr(self.scheduler, "scale_model_input"):
            scaled = self.scheduler.scale_model_input(latents, timestep)
        count = len(latents)
        alone = Rows(scaled, timestep, self.conditional, self.prompts)
        rows = alone.with_unconditional(self.backbone) if self.guidance.needs_unconditional else alone
        prediction, maps = self._predict(rows)
        return GuidedStep(
            unconditional=prediction[:count],
            conditional=prediction[-count:],
            unconditional_maps=tuple(maps[:count]),
            conditional_maps=tuple(maps[-count:]),
            text_length=self.conditional.text_length,
            predict_again=lambda: self._plain(alone),
        )

    def _predict(self, rows: Rows) -> tuple[Tensor, list[Any]]:
        if self.request is None:
            return self._plain(rows), []
        prediction, maps = self.backbone.predict(rows.inputs, rows.prompts, self.request, self.settings.image_size)
        return prediction.float(), maps

    def _plain(self, rows: Rows) -> Tensor:
        inputs = rows.inputs
        latents = inputs.latents.to(self.backbone.dtype)
        return self.backbone.denoise(latents, inputs.timesteps, inputs.conditioning).float()


@dataclass(frozen=True)
class Rows:
    """Rows of one forward."""

    latents: Tensor
    timestep: Tensor
    conditioning: Conditioning
    prompts: list[Prompt]

    @property
    def inputs(self) -> DenoiserInput:
        timesteps = self.timestep.to(self.latents.device).expand(len(self.latents))
        return DenoiserInput(self.latents, timesteps, self.conditioning)

    def with_unconditional(self, backbone: Backbone) -> Rows:
        """Rows without a prompt, then these."""
        count = len(self.prompts)
        parts = [*backbone.unconditional(count).rows(backbone.dtype), *self.conditioning.rows(backbone.dtype)]
        return replace(
            self,
            latents=torch.cat([self.latents] * 2),
            conditioning=Conditioning.of_rows(parts),
            prompts=[*[Prompt("", ())] * count, *self.prompts],
        )
