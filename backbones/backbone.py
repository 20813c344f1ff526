"""The interface of a backbone: from an image and a prompt to attention maps."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from segscale.errors import UserError
from segscale.prompt import Prompt

from .attention.layer_similarity import SimilarityStream
from .attention.maps import AttentionMaps
from .attention.recorder import Observation, Target, map_probe
from .attention.requests import MapRequest
from .attention.rules import HeadWeighting
from .attention.sites import Site
from .latents.images import pixel_values
from .latents.noise import NoiseLevel
from .latents.settings import CaptureSettings
from .loading.pretrained import TEXT_ENCODERS, LoadOptions, check_device, load_denoiser, load_pipeline, reinitialise
from .loading.weightless import build_without_weights
from .text.tokens import StreamTokens

log = logging.getLogger(__name__)

REMEMBERED_PROMPTS = 64


@dataclass(frozen=True)
class Conditioning:
    """What the text encoders made of prompts.

    inputs: keyword arguments of the denoiser. text_length: text columns of its attention.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    text_length: int = 0


class Backbone(ABC):
    """A text-to-image diffusion model, read by its attention.

    weights: hub id or local diffusers folder. architecture: the parts' published configuration, to build them without
    weights. denoiser_weights: where the denoiser is published apart from the rest. untrained: give the denoiser
    random weights from a fixed seed, to see what the architecture alone yields.
    """

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    denoiser_class: ClassVar[Any]
    denoiser_part: ClassVar[Literal["unet", "transformer"]]
    dropped_parts: ClassVar[tuple[str, ...]] = ()
    text_first: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        weights: str,
        architecture: Mapping[str, Mapping[str, Any]] | None = None,
        denoiser_weights: str | None = None,
        load: LoadOptions | None = None,
        untrained: bool = False,
        **load_arguments: Any,
    ) -> None:
        self.name = name
        self.load = load or LoadOptions()
        check_device(self.load.device, self.load.offload)
        parts = dict.fromkeys(self.dropped_parts) | load_arguments
        self.pipeline: Any
        if self.load.source == "pretrained":
            if denoiser_weights is not None:
                parts[self.denoiser_part] = load_denoiser(
                    self.denoiser_class, denoiser_weights, self.denoiser_part, self.load
                )
            self.pipeline = load_pipeline(self.pipeline_class, self.denoiser_part, weights, self.load, **parts)
        elif architecture is None:
            raise UserError(f"the config of {name} states no architecture", "give it weights")
        else:
            self.pipeline = build_without_weights(self.pipeline_class, architecture, self.load, **parts)
        if untrained:
            reinitialise(self.denoiser)
        self._conditioning: OrderedDict[str, Conditioning] = OrderedDict()

    @property
    def denoiser(self) -> nn.Module:
        return getattr(self.pipeline, self.denoiser_part)

    @property
    def denoiser_config(self) -> Mapping[str, Any]:
        return getattr(self.pipeline, self.denoiser_part).config

    @property
    def vae(self) -> AutoencoderKL:
        return self.pipeline.vae

    @property
    def device(self) -> torch.device:
        return self.pipeline._execution_device

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's arithmetic; quantised weights keep theirs to themselves."""
        return getattr(self.pipeline, self.denoiser_part).dtype

    @abstractmethod
    def sites(self, image_size: int) -> tuple[Site, ...]:
        """All sites for square images of ``image_size`` pixels, in execution order."""

    @abstractmethod
    def encode_text(self, texts: list[str]) -> Conditioning:
        """Text conditioning of a batch of prompts."""

    @abstractmethod
    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        """Token columns of the prompt's words, per text stream."""

    @abstractmethod
    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        """The scheduler's noise level for ``settings``."""

    @abstractmethod
    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """One denoiser forward; latent ``(n, channels, height, width)``, timestep ``(n,)`` as the scheduler counts."""

    @property
    def latent_stride(self) -> int:
        """Image pixels per latent pixel."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def patch(self) -> int:
        """Latent pixels per side of one of the denoiser's pixels."""
        return 1

    @property
    def largest_size(self) -> int | None:
        """Side of the largest image in pixels, where the architecture has a limit."""
        return None

    def check_size(self, image_size: int) -> None:
        """Raises UserError for a side that the architecture cannot take."""
        step, largest = self.latent_stride * self.patch, self.largest_size
        if image_size % step or (largest is not None and image_size > largest):
            limit = "" if largest is None else f" up to {largest}"
            raise UserError(f"{self.name} takes no images of {image_size} px", f"use a multiple of {step}{limit}")

    @torch.no_grad()
    def encode_image(self, image: Image.Image, settings: CaptureSettings, generator: torch.Generator) -> Tensor:
        """Clean latent, float32 ``(1, channels, height, width)``, scaled as the denoiser expects it."""
        values = pixel_values(image, settings).to(self.device, self.vae.dtype)
        posterior = self.vae.encode(values).latent_dist
        latent = posterior.mean.float()
        if settings.posterior == "sample":
            draw = torch.randn(latent.shape, generator=generator)
            latent = latent + posterior.std.float() * draw.to(latent.device)
        config = self.vae.config
        return (latent - (config["shift_factor"] or 0.0)) * config["scaling_factor"]

    def noised(
        self, image: Image.Image, settings: CaptureSettings, generator: torch.Generator
    ) -> tuple[Tensor, NoiseLevel]:
        """Noised latent, float32 ``(1, channels, height, width)``, and its level.

        generator: on the CPU; gives the posterior draw, then the diffusion noise. Raises UserError for an image size
        that the architecture cannot take.
        """
        self.check_size(settings.image_size)
        latent = self.encode_image(image, settings, generator)
        level = self.noise_level(settings)
        return level.mix(latent, torch.randn(latent.shape, generator=generator).to(latent.device)), level

    def conditioning(self, text: str) -> Conditioning:
        """Text conditioning of one prompt; the encoders run once per distinct text."""
        if text not in self._conditioning:
            with torch.no_grad():
                encoded = self.encode_text([text])
            inputs = {
                name: value.to(self.dtype) if value.is_floating_point() else value
                for name, value in encoded.inputs.items()
            }
            self._conditioning[text] = Conditioning(inputs, encoded.text_length)
        self._conditioning.move_to_end(text)
        if len(self._conditioning) > REMEMBERED_PROMPTS:
            self._conditioning.popitem(last=False)
        return self._conditioning[text]

    def free_text_encoders(self) -> None:
        """Drop the text encoders; only prompts that were encoded lately can be used from then on."""
        for part in TEXT_ENCODERS:
            if getattr(self.pipeline, part, None) is not None:
                setattr(self.pipeline, part, None)

    @torch.no_grad()
    def observe(
        self,
        noised: Tensor,
        level: NoiseLevel,
        prompt: Prompt,
        request: MapRequest,
        image_size: int,
        pixel_dtype: torch.dtype = torch.float16,
    ) -> AttentionMaps:
        """Attention maps of a noised latent ``(1, channels, height, width)``."""
        tokens = self.tokenize(prompt)
        _report_truncation(tokens)
        conditioning = self.conditioning(prompt.text)
        sites = {site.name: site for site in self.sites(image_size)}
        wanted = _select(sites, request.sites, self.name)
        weightings = _by_site(request.weighted)
        targets = self._targets(wanted, request, weightings, conditioning.text_length)
        timestep = torch.tensor([level.timestep], device=noised.device)
        maps = AttentionMaps(wanted, tokens)
        similarities = SimilarityStream(request.similar)
        by_module = {module: site for site in wanted.values() for module in (site.text_module, site.pixel_module)}

        def gather(module: str, seen: Observation) -> None:
            site = by_module[module]
            if site.name in request.text and seen.text is not None:
                maps.text[site.name] = seen.text
            for rule in weightings.get(site.name, ()):
                text = seen.weighted.get(rule, seen.text)
                if text is not None:
                    maps.weighted[site.name, rule] = text
            if seen.feature is not None:
                similarities.add_feature(site, seen.feature)
            if seen.pixels is not None:
                similarities.add_pixels(site, seen.pixels)
                if site.name in request.pixels:
                    maps.pixels[site.name] = seen.pixels
            # Maps are large: from here on only those who asked hold them.
            seen.pixels = seen.feature = None

        with map_probe(self.denoiser, targets, pixel_dtype, observer=gather):
            self.denoise(noised.to(self.dtype), timestep, conditioning)
        maps.similarity.update(similarities.values)
        return maps

    def _targets(
        self,
        sites: Mapping[str, Site],
        request: MapRequest,
        weightings: Mapping[str, Sequence[HeadWeighting]],
        text_length: int,
    ) -> dict[str, Target]:
        """What to keep of every module; where there is no out projection, heads are averaged."""
        compared = {name for name, _ in request.similar}
        references = {measure.reference_site for _, measure in request.similar}
        targets: dict[str, Target] = {}
        for site in sites.values():
            pixels = site.name in request.pixels or site.name in compared
            asked = weightings.get(site.name, ())
            rules = tuple(rule for rule in asked if site.projection or not rule.needs_projection)
            mean = site.name in request.text or len(rules) < len(asked)
            text = bool(mean or rules)
            reference = site.name in references
            if site.kind == "joint":
                assert site.text_module is not None
                image, words = self.joint_columns(site, text_length)
                targets[site.text_module] = Target(
                    queries=image,
                    text=words if text else None,
                    pixels=image if pixels else None,
                    mean=mean,
                    weightings=rules,
                    projection=site.projection,
                    feature="output" if reference else None,
                )
                continue
            if site.text_module and (text or reference):
                targets[site.text_module] = Target(
                    queries=slice(None),
                    text=slice(None) if text else None,
                    mean=mean,
                    weightings=rules,
                    projection=site.projection,
                    feature="query" if reference else None,
                )
            if pixels and site.pixel_module:
                targets[site.pixel_module] = Target(queries=slice(None), pixels=slice(None))
        return targets

    def joint_columns(self, site: Site, text_length: int) -> tuple[slice, slice]:
        """Image rows and text columns of a joint sequence."""
        if self.text_first:
            return slice(text_length, text_length + site.grid.pixels), slice(0, text_length)
        return slice(0, site.grid.pixels), slice(site.grid.pixels, site.grid.pixels + text_length)


def _by_site(weighted: Iterable[tuple[str, HeadWeighting]]) -> dict[str, list[HeadWeighting]]:
    rules: dict[str, list[HeadWeighting]] = {}
    for site, rule in sorted(weighted, key=repr):
        rules.setdefault(site, []).append(rule)
    return rules


def _select(sites: Mapping[str, Site], names: Iterable[str], backbone: str) -> dict[str, Site]:
    names = set(names)
    if unknown := sorted(names - sites.keys()):
        raise UserError(f"{backbone} has no site {unknown[0]!r}", f"list them with: segscale sites {backbone}")
    return {name: site for name, site in sites.items() if name in names}


def _report_truncation(tokens: tuple[StreamTokens, ...]) -> None:
    if cut := [name for name in tokens[0].cut if all(name in stream.cut for stream in tokens)]:
        log.warning("the prompt was cut at %d tokens, within or before: %s", tokens[0].length, ", ".join(cut))
