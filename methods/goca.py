"""GoCA: cross-attention aggregated over heads and layers by what they contribute, then rescaled per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps, CaptureSettings, MapRequest, Recommended, Timestep
from ..backbones.attention.sites import Site
from .affinity import propagate, spatial_affinity
from .head_weights import HEAD_WEIGHTINGS, OutputShare
from .layer_weights import LayerMeasure, ReferenceAffinity, layer_weights, uniform_weights
from .method import ClassScores, Method, PromptRule
from .rescaling import Rescaling, merged_columns, prominence, rescale, rescaling_columns, strongest, word_maps
from .resizing import resized_tokens
from .safe_division import shares


@METHODS.register_module()
class GoCA(Method):
    """ "Making Training-Free Diffusion Segmentors Scale with the Generative Power", arXiv 2603.06178.

    heads: how a site's heads are weighed, one of ``HEAD_WEIGHTINGS``. layers: how sites are weighed, by their
    agreement with the reference site or ``uniform``. rescaling: of word maps, one of ``RESCALINGS``.
    text_sites: sites that are aggregated, None for all. The rest is what the backbone recommends unless given.
    With ``average``, ``uniform`` and ``min-max`` this is the paper's vanilla.

    The last six arguments switch what the published code does and the paper does not say, see ``quirks``.
    """

    quirks = MappingProxyType(
        {
            "reference_channels": "the reference affinity is made of channel 0 alone: the batch axis is indexed twice",
            "renormalise_layers": "rows of resized self-attention are not renormalised, so coarse layers weigh more",
            "renormalise_affinity": "the same in the affinity that refines scores",
            "guarded": "no division is guarded: a constant map or a class without token is NaN, which wins every pixel",
            "captions": "a later group without comma loses phrases; names match letter by letter",
            "location": "a word is where its text first occurs in the prompt, even inside another word",
        }
    )

    def __init__(
        self,
        name: str,
        recommended: Recommended,
        heads: str | None = None,
        layers: LayerMeasure | Literal["uniform"] = "dot-product",
        rescaling: Rescaling = "share+min-max",
        text_sites: Sequence[str] | None = None,
        affinity_sites: Sequence[str] | None = None,
        affinity_order: int | None = None,
        reference_site: str | None = None,
        timestep: float | None = None,
        feature_size: int | None = None,
        reference_channels: Literal["first", "all"] = "first",
        renormalise_layers: bool = False,
        renormalise_affinity: bool = False,
        guarded: bool = False,
        captions: Literal["published", "described"] = "published",
        location: Literal["first-substring", "span"] = "first-substring",
    ) -> None:
        self.name = name
        self.heads = recommended.heads if heads is None else heads
        self.layers: LayerMeasure | Literal["uniform"] = layers
        self.rescaling: Rescaling = rescaling
        self.text_sites = None if text_sites is None else tuple(text_sites)
        self.affinity_order = recommended.affinity_order if affinity_order is None else affinity_order
        self.affinity_sites = tuple(recommended.affinity_sites if affinity_sites is None else affinity_sites)
        self.reference_site = reference_site or recommended.reference_site
        self.side = recommended.feature_size if feature_size is None else feature_size
        self.reference_channels: Literal["first", "all"] = reference_channels
        self.renormalise_layers = renormalise_layers
        self.renormalise_affinity = renormalise_affinity
        self.guarded = guarded
        self.captions: Literal["published", "described"] = captions
        self.location: Literal["first-substring", "span"] = location
        self._settings = CaptureSettings(
            image_size=recommended.image_size,
            timestep=Timestep(t=recommended.timestep if timestep is None else timestep),
        )
        if self.heads not in HEAD_WEIGHTINGS:
            raise ValueError(f"unknown head weighting {self.heads!r}; there are: {', '.join(HEAD_WEIGHTINGS)}")

    @property
    def settings(self) -> CaptureSettings:
        return self._settings

    @property
    def prompt(self) -> PromptRule:
        return PromptRule(self.captions, self.location)

    def request(self, sites: Sequence[Site]) -> MapRequest:
        chosen = self.text_sites or tuple(site.name for site in sites if site.text_module)
        weighted = frozenset() if self._weighting is None else frozenset((site, self._weighting) for site in chosen)
        similar = frozenset() if self._measure is None else frozenset((site, self._measure) for site in chosen)
        return MapRequest(
            text=frozenset(chosen) if self._weighting is None else frozenset(),
            pixels=frozenset(self.affinity_sites if self.affinity_order else ()),
            weighted=weighted,
            similar=similar,
        )

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        return self.refine(maps, self.word_scores(maps, self.aggregate(maps)))

    def aggregate(self, maps: AttentionMaps) -> Tensor:
        """Token maps over all sites: weighted sum, clamped at 0, shares of all tokens; ``(tokens, side, side)``."""
        text = self._text(maps)
        weights = self.weights(maps, tuple(text))
        total: Tensor | None = None
        for site, weight in weights.items():
            share = weight * resized_tokens(text[site], maps.sites[site].grid, self.side)
            total = share if total is None else total.add_(share)
        if total is None:
            raise ValueError("no site to aggregate")
        total = total.clamp(min=0)
        return shares(total) if self.guarded else total / total.sum(0)

    def weights(self, maps: AttentionMaps, sites: tuple[str, ...]) -> Mapping[str, Tensor | float]:
        """What every site counts; they sum to one."""
        if self._measure is None:
            return uniform_weights(sites)
        return layer_weights({site: maps.similarity[site, self._measure] for site in sites}, self.guarded)

    def word_scores(self, maps: AttentionMaps, tokens: Tensor) -> ClassScores:
        """Rescaled word maps; the background map is the strongest of the background words, zero if there is none."""
        classes, background = merged_columns(maps.tokens)
        factor = tokens[rescaling_columns(maps.tokens)].sum(0)
        found = [
            rescale(word_maps(tokens, words, self.guarded), factor, self.rescaling, self.guarded)
            for words in (classes, background)
        ]
        evidence = prominence(word_maps(tokens, classes, guarded=True))
        return ClassScores(found[0], strongest(found[1]), evidence)

    def refine(self, maps: AttentionMaps, scores: ClassScores) -> ClassScores:
        """Scores spread by self-attention; without background words their map stays zero."""
        if not self.affinity_order:
            return scores
        affinity = spatial_affinity(maps, self.affinity_sites, self.side, self.renormalise_affinity)
        everything = torch.cat([scores.classes, scores.background[None]])
        if not any(columns for stream in maps.tokens for columns in stream.background):
            refined = propagate(scores.classes, affinity, self.affinity_order, self.guarded)
            return replace(scores, classes=refined)
        refined = propagate(everything, affinity, self.affinity_order, self.guarded)
        return ClassScores(refined[:-1], refined[-1], scores.evidence)

    def _text(self, maps: AttentionMaps) -> dict[str, Tensor]:
        """Head-weighed text-to-pixel map of every site, in execution order."""
        if self._weighting is None:
            found = maps.text
        else:
            found = {site: text for (site, rule), text in maps.weighted.items() if rule == self._weighting}
        return {site: found[site] for site in maps.sites if site in found}

    @property
    def _weighting(self) -> OutputShare | None:
        weighting = HEAD_WEIGHTINGS[self.heads]
        return weighting and replace(weighting, guarded=self.guarded)

    @property
    def _measure(self) -> ReferenceAffinity | None:
        layers = self.layers
        if layers == "uniform":
            return None
        return ReferenceAffinity(self.reference_site, layers, self.reference_channels, self.renormalise_layers)
