"""Seg4Diff: image-to-text attention of single blocks as a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps, CaptureSettings, MapRequest, Recommended, Timestep
from ..backbones.attention.rules import HeadWeighting
from ..backbones.attention.sites import Site
from .head_weights import OneHead
from .method import ClassScores, Method, PromptRule
from .rescaling import merged_columns, prominence, strongest, word_maps

NORMALISATION_EPSILON = 1e-6
STEPS_FROM_THE_END = 8


@METHODS.register_module()
class Seg4Diff(Method):
    """ "Seg4Diff: Unveiling Open-Vocabulary Segmentation in Text-to-Image Diffusion Transformers", arXiv 2509.18096.

    A class is the mean of its token columns in the head-averaged attention of pixels to text, from one softmax over
    all keys of the block (the joint sequence of an MM-DiT), averaged over ``sites``. The background map is the
    strongest of the background words' maps, zero where the prompt has none.

    sites: None for the backbone's grounding sites. head: only this head. normalise_words, normalise_classes: each
    token's map before the mean, or each class's map after it, stretched to (x - min) / (max - min + 1e-6).
    steps: of the schedule, of which the entry 8 from the end is used; timestep: ``t`` instead. resize,
    posterior: of the image; with ``bicubic`` and ``sample`` a forward can be shared with GoCA. On a backbone without
    joint attention the same rule reads cross-attention, and tables say so.
    The last four arguments switch what the published code does and the paper does not say, see ``quirks``.
    """

    quirks = MappingProxyType(
        {
            "pixel_range": "Flux's VAE is fed [0, 1] instead of [-1, 1]",
            "shift_by": "Flux's resolution shift is made of the channel count, not of the number of image tokens",
            "reading": "names are tokenised alone and counted one after the other, whatever the prompt's tokens are",
            "guarded": "a class beyond the text encoder's end is the mean of nothing, NaN, which wins every pixel",
        }
    )

    def __init__(
        self,
        name: str,
        recommended: Recommended,
        sites: Sequence[str] | None = None,
        head: int | None = None,
        normalise_words: bool = False,
        normalise_classes: bool = False,
        steps: int = 28,
        timestep: float | None = None,
        resize: Literal["bicubic", "shortest-edge"] = "shortest-edge",
        posterior: Literal["sample", "mean"] = "mean",
        pixel_range: Literal["signed", "unit"] = "signed",
        shift_by: Literal["image-tokens", "latent-channels"] = "image-tokens",
        reading: Literal["published", "described"] = "published",
        guarded: bool = False,
    ) -> None:
        self.name = name
        self.sites = tuple(sites or recommended.grounding)
        self.head = head
        self.normalise_words = normalise_words
        self.normalise_classes = normalise_classes
        self.attention = recommended.attention
        self.reading: Literal["published", "described"] = reading
        self.guarded = guarded
        self.stretched = normalise_classes
        level = Timestep(index=-STEPS_FROM_THE_END, steps=steps) if timestep is None else Timestep(t=timestep)
        self._settings = CaptureSettings(
            image_size=recommended.image_size,
            timestep=level,
            resize=resize,
            posterior=posterior,
            pixel_range=pixel_range,
            shift_by=shift_by,
        )

    @property
    def settings(self) -> CaptureSettings:
        return self._settings

    @property
    def prompt(self) -> PromptRule:
        return PromptRule("names", "counted") if self.reading == "published" else PromptRule("described", "span")

    def request(self, sites: Sequence[Site]) -> MapRequest:
        if self._rule is None:
            return MapRequest(text=frozenset(self.sites))
        return MapRequest(weighted=frozenset((site, self._rule) for site in self.sites))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        grid = maps.sites[self.sites[0]].grid
        text = [maps.text[site] if self._rule is None else maps.weighted[site, self._rule] for site in self.sites]
        tokens = torch.stack(text).mean(0).T.unflatten(1, (grid.height, grid.width))
        classes, background = merged_columns(maps.tokens)
        evidence = self._evidence(tokens, classes)
        if self.normalise_words:
            tokens = _stretched(tokens)
        found = [word_maps(tokens, words, self.guarded) for words in (classes, background)]
        if self.normalise_classes:
            found = [_stretched(words) for words in found]
        return ClassScores(found[0], strongest(found[1]), evidence)

    def _evidence(self, tokens: Tensor, classes: list[list[int]]) -> Tensor:
        """Attention itself is comparable between prompts; stretched maps are not."""
        if not (classes and (self.normalise_words or self.normalise_classes)):
            return tokens.new_ones(len(classes))
        return prominence(word_maps(tokens, classes, guarded=True))

    @property
    def _rule(self) -> HeadWeighting | None:
        return None if self.head is None else OneHead(self.head)


def _stretched(maps: Tensor) -> Tensor:
    """``(n, h, w)`` stretched over space as published, with an epsilon that small attention values feel."""
    if not len(maps):
        return maps
    low = maps.amin((1, 2), keepdim=True)
    lifted = maps - low
    return lifted / (lifted.amax((1, 2), keepdim=True) + NORMALISATION_EPSILON)
