"""The interface of a backbone: from an image and a prompt to attention maps."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from segscale.errors import UserError
from segscale.prompt import Prompt

from .attention.gather import MapGatherer, module_targets
from .attention.maps import AttentionMaps
from .attention.recorder import map_probe
from .attention.requests import MapRequest
from .attention.sites import Grid, Site, selected_sites
from .attention.ways import Ways, ways_on
from .inputs import DenoiserInput, PromptedImage
from .latents.images import pixel_values
from .latents.noise import NoiseLevel, normal_draws
from .latents.pictures import latent_stride, latents_of, pictures_of
from .latents.settings import CaptureSettings
from .loading.lora import merge_lora, read_lora
from .loading.options import LoadOptions, Training, check_untrained
from .loading.pretrained import TEXT_ENCODERS, check_device, load_denoiser, load_pipeline, reinitialise
from .loading.weightless import build_without_weights
from .text.conditioning import Conditioning
from .text.memory import PromptMemory
from .text.tokens import StreamTokens, report_truncation


class Backbone(ABC):
    """A text-to-image diffusion model, read by its attention."""

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    denoiser_class: ClassVar[Any]
    denoiser_part: ClassVar[Literal["unet", "transformer"]]
    text_first: ClassVar[bool] = False
    """Whether text comes before the image in a joint sequence."""
    draws_masks: ClassVar[bool] = False
    """Whether ``mask_latent`` works: it was taught to draw masks beside clean pictures."""
    dropped_parts: tuple[str, ...] = ()
    """Parts of the pipeline that are not loaded."""
    _device: torch.device | None = None

    def __init__(
        self,
        *,
        name: str,
        weights: str,
        architecture: Mapping[str, Mapping[str, Any]] | None = None,
        denoiser_weights: str | None = None,
        load: LoadOptions | None = None,
        untrained: bool = False,
        training: Training = "none",
    ) -> None:
        """Load the pipeline.

        Args:
            name: The config's name.
            weights: Hub id or local diffusers folder.
            architecture: The parts' published configuration, to build them without weights.
            denoiser_weights: Where the denoiser is published apart from the rest.
            load: How to load; by default in float32 on the CPU.
            untrained: Whether the denoiser gets random weights from a fixed seed, to see the architecture alone.
            training: What the denoiser learnt from beside pictures and captions.
        """
        self.name = name
        self.training = training
        self.load = load or LoadOptions()
        check_device(self.load)
        check_untrained(untrained, self.load)
        parts: dict[str, Any] = dict.fromkeys(self.dropped_parts)
        part = self.denoiser_part
        self.pipeline: Any
        if self.load.source == "pretrained":
            if denoiser_weights is not None:
                parts[part] = load_denoiser(self.denoiser_class, denoiser_weights, part, self.load)
            self.pipeline = load_pipeline(self.pipeline_class, part, weights, self.load, **parts)
        elif architecture is None:
            raise UserError(f"the config of {name} states no architecture", "give it weights")
        else:
            self.pipeline = build_without_weights(self.pipeline_class, architecture, self.load, **parts)
        if untrained:
            reinitialise(self.denoiser)
        if self.load.lora is not None:
            merge_lora(self.denoiser, lora := read_lora(self.load.lora, part))
            self.training = lora.training if training == "none" else training
        self._device = self.pipeline._execution_device

    @property
    def denoiser(self) -> nn.Module:
        """The network whose attention is observed."""
        return getattr(self.pipeline, self.denoiser_part)

    @property
    def denoiser_config(self) -> Mapping[str, Any]:
        """Its diffusers configuration."""
        return getattr(self.pipeline, self.denoiser_part).config

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder, in float32."""
        return self.pipeline.vae

    @property
    def device(self) -> torch.device:
        """Where the denoiser runs; what a constructor loaded is not moved, and finding its device walks all modules."""
        return self._device or self.pipeline._execution_device

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's arithmetic; quantised weights keep theirs to themselves."""
        return getattr(self.pipeline, self.denoiser_part).dtype

    @classmethod
    def around(cls, pipeline: DiffusionPipeline) -> Self:
        """Return a backbone of a pipeline that is loaded already; what a constructor sets beside it is not known."""
        backbone = cls.__new__(cls)
        backbone.name, backbone.pipeline = type(pipeline).__name__, pipeline
        backbone.training, backbone.load = "none", LoadOptions()
        return backbone

    @abstractmethod
    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        """Return all sites where the denoiser has the pixels of ``grid``, in execution order."""

    def sites(self, image_size: int) -> tuple[Site, ...]:
        """Return all sites for square images of ``image_size`` pixels, in execution order."""
        return self.sites_on(self.grid(image_size))

    @abstractmethod
    def encode_text(self, texts: list[str]) -> Conditioning:
        """Encode a batch of prompts."""

    @abstractmethod
    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Find the token columns of the prompt's words, per text stream."""

    @abstractmethod
    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """Return the scheduler's noise level for ``settings``."""

    @abstractmethod
    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser: latent ``(n, channels, height, width)``, timestep ``(n,)`` as the scheduler counts."""

    @property
    def latent_stride(self) -> int:
        """Image pixels per latent pixel."""
        return latent_stride(self.vae)

    @property
    def patch(self) -> int:
        """Latent pixels per side of one of the denoiser's pixels."""
        return 1

    @property
    def largest_size(self) -> int | None:
        """Side of the largest image in pixels, where the architecture has a limit."""
        return None

    def grid(self, image_size: int) -> Grid:
        """Return the denoiser's pixels for a square image of ``image_size`` pixels."""
        side = image_size // self.latent_stride // self.patch
        return Grid(side, side)

    def check_size(self, image_size: int) -> None:
        """Raise UserError for a side that the architecture cannot take."""
        step, largest = self.latent_stride * self.patch, self.largest_size
        if image_size % step or (largest is not None and image_size > largest):
            limit = "" if largest is None else f" up to {largest}"
            raise UserError(f"{self.name} takes no images of {image_size} px", f"use a multiple of {step}{limit}")

    def encode_images(
        self, images: Sequence[Image.Image], settings: CaptureSettings, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Encode images as the denoiser expects them, without noise: float32 ``(n, channels, height, width)``."""
        values = torch.cat([pixel_values(image, settings) for image in images]).to(self.device)
        return latents_of(self.vae, values, generators if settings.posterior == "sample" else None)

    def noised(
        self, images: Sequence[Image.Image], settings: CaptureSettings, generators: Sequence[torch.Generator]
    ) -> list[tuple[Tensor, NoiseLevel]]:
        """Encode images in one batch and add noise.

        Args:
            images: Of any size.
            settings: How they become latents, and at which noise level.
            generators: One of every image, on the CPU; gives the posterior draw, then the diffusion noise.

        Returns:
            The noised latent of every image, float32 ``(1, channels, height, width)``, or as ``mask_latent`` makes it,
            and its level.

        Raises:
            UserError: For an image size that the architecture cannot take, or where it draws no masks.
        """
        self.check_size(settings.image_size)
        latents = self.encode_images(images, settings, generators)
        level = self.noise_level(settings)
        draws = normal_draws(latents, generators)
        noised = level.mix(latents, draws) if settings.drawn == "picture" else self.mask_latent(latents, draws)
        return [(latent, level) for latent in noised.split(1)]

    def mask_latent(self, _picture: Tensor, _draw: Tensor, /) -> Tensor:
        """Put masks at pure noise beside clean pictures; raises UserError where the denoiser draws no masks."""
        hint = "name one that was trained to, such as pocket-genmask"
        raise UserError(f"{self.name} draws no masks beside pictures", hint)

    @cached_property
    def prompts(self) -> PromptMemory:
        """What is kept of encoded prompts."""
        return PromptMemory()

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """Encode prompts, a row for each; the encoders run once per distinct text, on all that are new together."""
        return self.prompts.together(texts, self.encode_text, self.device, self.dtype)

    def free_text_encoders(self) -> None:
        """Drop the text encoders; only prompts that were encoded lately can be used from then on."""
        for part in TEXT_ENCODERS:
            if getattr(self.pipeline, part, None) is not None:
                setattr(self.pipeline, part, None)

    @torch.no_grad()
    def observe(
        self,
        images: Sequence[PromptedImage],
        request: MapRequest,
        image_size: int,
        pixel_dtype: torch.dtype = torch.float16,
        ways: Ways | None = None,
    ) -> list[AttentionMaps]:
        """Observe one denoiser forward of a batch.

        Args:
            images: The batch, each with its own prompt and noise.
            request: Which maps to keep of every row.
            image_size: Side of the images that the latents were made of, in pixels.
            pixel_dtype: Precision of pixel-to-pixel maps.
            ways: How to observe, by default what pays on the device.
        """
        latents = torch.cat([image.noised for image in images])
        timesteps = torch.tensor([image.level.timestep for image in images], device=latents.device)
        prompts = [image.prompt for image in images]
        for prompt in prompts:
            report_truncation(self.tokenize(prompt))
        inputs = DenoiserInput(latents, timesteps, self.conditioning([prompt.text for prompt in prompts]))
        prediction, maps = self.predict(inputs, prompts, request, image_size, pixel_dtype, ways)
        if not request.picture:
            return maps
        answers = zip(images, prediction.float(), strict=True)
        clean = [image.level.clean(image.drawn, answer[None]) for image, answer in answers]
        pictures = pictures_of(self.vae, torch.cat(clean)).clamp(-1, 1)
        return [replace(row, picture=picture) for row, picture in zip(maps, pictures, strict=True)]

    @torch.no_grad()
    def predict(
        self,
        inputs: DenoiserInput,
        prompts: Sequence[Prompt],
        request: MapRequest,
        image_size: int,
        pixel_dtype: torch.dtype = torch.float16,
        ways: Ways | None = None,
    ) -> tuple[Tensor, list[AttentionMaps]]:
        """Return the denoiser's prediction for a batch, and each row's maps; other arguments as of ``observe``."""
        ways = ways or ways_on(self.device)
        sites = selected_sites(self.sites(image_size), request.sites, self.name)
        columns = partial(self.joint_columns, text_length=inputs.conditioning.text_length)
        targets = module_targets(sites, request, columns, ways.layers)
        gatherer = MapGatherer(sites, [self.tokenize(prompt) for prompt in prompts], request)
        with map_probe(self.denoiser, targets, pixel_dtype, ways.chunk_bytes, gatherer, ways.text):
            prediction = self.denoise(inputs.latents.to(self.dtype), inputs.timesteps, inputs.conditioning)
        return prediction, gatherer.gathered()

    def unconditional(self, count: int) -> Conditioning:
        """Return the conditioning of rows without a prompt, as classifier-free guidance wants it."""
        return self.conditioning([""] * count)

    def sampling_scheduler(self, steps: int, image_size: int) -> Any:
        """Return a fresh scheduler whose timesteps are set, as the pipeline itself would set them."""
        del image_size  # only a resolution shift depends on it
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def joint_columns(self, site: Site, text_length: int) -> tuple[slice, slice]:
        """Return image rows and text columns of a joint sequence."""
        if self.text_first:
            return slice(text_length, text_length + site.grid.pixels), slice(0, text_length)
        return slice(0, site.grid.pixels), slice(site.grid.pixels, site.grid.pixels + text_length)
