"""Seg4Diff: image-to-text attention of single blocks as a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.requests import MapRequest
from ..backbones.attention.rules import HeadWeighting
from ..backbones.attention.sites import Site
from ..backbones.latents.settings import CaptureSettings, Timestep
from .defaults import AttentionKind
from .head_weights import OneHead
from .method import ClassScores, Method, PromptRule
from .rescaling import WordRule, merged_columns, peak_contrast, strongest, word_maps

NORMALISATION_EPSILON = 1e-6
STEPS_FROM_THE_END = 8


@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Seg4Diff(Method):
    """Seg4Diff, arXiv 2509.18096: the joint attention of a diffusion transformer's block as a segmentation.

    A class is the mean of its token columns in the head-averaged attention of pixels to text, from one softmax over
    all keys of the block (the joint sequence of an MM-DiT), averaged over the grounding sites. The background map is
    the strongest of the background words' maps, zero where the prompt has none.

    With ``bicubic`` and ``sample`` a forward can be shared with GoCA. The last four fields switch what the published
    code does and the paper does not say, see ``quirks``.
    """

    image_size: int
    attention: AttentionKind
    """On a backbone without joint attention the same rule reads cross-attention, and tables say so."""
    grounding_sites: tuple[str, ...]
    """Sites whose attention is averaged."""
    head: int | None = None
    """Read this head alone."""
    words: WordRule = "mean"
    """How the columns of a word become its map."""
    normalise_words: bool = False
    """Stretch each token's map to (x - min) / (max - min + 1e-6) before the mean."""
    normalise_classes: bool = False
    """Stretch each class's map alike after the mean."""
    steps: int = 28
    """Length of the schedule whose entry 8 from the end is used."""
    timestep: float | None = None
    """``t`` in 1..1000 instead of that entry."""
    resize: Literal["bicubic", "shortest-edge"] = "shortest-edge"
    posterior: Literal["sample", "mean"] = "mean"
    pixel_range: Literal["signed", "unit"] = "signed"
    shift_by: Literal["image-tokens", "latent-channels"] = "image-tokens"
    reading: Literal["published", "described"] = "published"
    safe_division: bool = False

    quirks = MappingProxyType(
        {
            "pixel_range": "Flux's VAE is fed [0, 1] instead of [-1, 1]",
            "shift_by": "Flux's resolution shift is made of the channel count, not of the number of image tokens",
            "reading": "names are tokenised alone and counted one after the other, whatever the prompt's tokens are",
            "safe_division": "a class beyond the text encoder's end is the mean of nothing, NaN, which wins "
            "every pixel",
        }
    )

    @property
    def settings(self) -> CaptureSettings:
        """The image is resized as in the published code, at the entry of its schedule."""
        entry = Timestep(index=-STEPS_FROM_THE_END, steps=self.steps)
        return CaptureSettings(
            image_size=self.image_size,
            timestep=entry if self.timestep is None else Timestep(t=self.timestep),
            resize=self.resize,
            posterior=self.posterior,
            pixel_range=self.pixel_range,
            shift_by=self.shift_by,
        )

    @property
    def normalised(self) -> bool:
        """Scores are raw attention unless classes are stretched."""
        return self.normalise_classes

    @property
    def prompt_rule(self) -> PromptRule:
        """Class names alone, counted (published), or what the protocol prompts (described)."""
        return PromptRule("names", "counted") if self.reading == "published" else PromptRule("described", "span")

    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Return the text-to-pixel maps of the grounding sites."""
        if self._rule is None:
            return MapRequest(text=frozenset(self.grounding_sites))
        return MapRequest(weighted=frozenset((site, self._rule) for site in self.grounding_sites))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        """Average token maps over sites, then over the tokens of each word."""
        grid = maps.sites[self.grounding_sites[0]].grid
        rule = self._rule
        text = [maps.text[site] if rule is None else maps.weighted[site, rule] for site in self.grounding_sites]
        tokens = torch.stack(text).mean(0).T.unflatten(1, (grid.height, grid.width))
        classes, background = merged_columns(maps.tokens)
        evidence = self._evidence(tokens, classes)
        if self.normalise_words:
            tokens = _stretched(tokens)
        words = [word_maps(tokens, columns, self.safe_division, self.words) for columns in (classes, background)]
        if self.normalise_classes:
            words = [_stretched(maps) for maps in words]
        return ClassScores(words[0], strongest(words[1]), evidence)

    def _evidence(self, tokens: Tensor, classes: list[list[int]]) -> Tensor:
        """Attention itself is comparable between prompts; stretched maps are not."""
        if not (classes and (self.normalise_words or self.normalise_classes)):
            return tokens.new_ones(len(classes))
        return peak_contrast(word_maps(tokens, classes, safe_division=True))

    @property
    def _rule(self) -> HeadWeighting | None:
        return None if self.head is None else OneHead(self.head)


def _stretched(maps: Tensor) -> Tensor:
    """Stretch ``(n, h, w)`` over space as published, with an epsilon that small attention values feel."""
    if not len(maps):
        return maps
    low = maps.amin((1, 2), keepdim=True)
    lifted = maps - low
    return lifted / (lifted.amax((1, 2), keepdim=True) + NORMALISATION_EPSILON)
