"""GoCA: cross-attention aggregated over heads and layers by what they contribute, then rescaled per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from segscale.errors import UserError
from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.requests import MapRequest
from ..backbones.attention.sites import Site
from ..backbones.latents.settings import CaptureSettings, Timestep
from .affinity import propagate, spatial_affinity
from .head_weights import HEAD_WEIGHTINGS, ContributionWeighting
from .layer_weights import LayerMeasure, ReferenceAffinity, layer_weights, uniform_weights
from .method import ClassScores, Method, PromptRule
from .rescaling import (
    Rescaling,
    WordRule,
    merged_columns,
    peak_contrast,
    rescale,
    rescaling_columns,
    strongest,
    word_maps,
)
from .resizing import resized_tokens
from .safe_division import shares


@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class GoCA(Method):
    """GoCA, "Making Training-Free Diffusion Segmentors Scale with the Generative Power", arXiv 2603.06178.

    With ``average`` heads, ``uniform`` layers and ``min-max`` rescaling this is the paper's vanilla. The last six
    fields switch what the published code does and the paper does not say, see ``quirks``.
    """

    image_size: int
    timestep: float
    """``t`` in 1..1000."""
    feature_size: int
    """Side of the scores."""
    heads: str
    """How a site's heads are weighed, a name of ``HEAD_WEIGHTINGS``."""
    layers: LayerMeasure | Literal["uniform"] = "dot-product"
    """How sites are weighed: by their agreement with the reference site, or all the same."""
    rescaling: Rescaling = "share+min-max"
    """How word maps are rescaled."""
    words: WordRule = "mean"
    """How the columns of a word become its map."""
    text_sites: tuple[str, ...] | None = None
    """Sites that are aggregated, None for all."""
    affinity_sites: tuple[str, ...]
    """Sites whose self-attention refines the scores."""
    affinity_order: int
    """How often it refines them, 0 for not at all."""
    reference_site: str
    """The site that the others are compared with."""
    reference_channels: Literal["first", "all"] = "first"
    renormalise_layers: bool = False
    renormalise_affinity: bool = False
    safe_division: bool = False
    captions: Literal["published", "described"] = "published"
    location: Literal["first-substring", "span"] = "first-substring"

    quirks = MappingProxyType(
        {
            "reference_channels": "the reference affinity is made of channel 0 alone: the batch axis is indexed twice",
            "renormalise_layers": "rows of resized self-attention are not renormalised, so coarse layers weigh more",
            "renormalise_affinity": "the same in the affinity that refines scores",
            "safe_division": "no division is guarded: a constant map or a class without token is NaN, which wins "
            "every pixel",
            "captions": "a later group without comma loses phrases; names match letter by letter",
            "location": "a word is where its text first occurs in the prompt, even inside another word",
        }
    )

    def __post_init__(self) -> None:
        """Raise UserError for an unknown way to weigh heads."""
        if self.heads not in HEAD_WEIGHTINGS:
            raise UserError(
                f"{self.name}: unknown head weighting {self.heads!r}", f"there are: {', '.join(HEAD_WEIGHTINGS)}"
            )

    @property
    def settings(self) -> CaptureSettings:
        """One bicubic resize and a posterior draw, at the timestep ``t``."""
        return CaptureSettings(self.image_size, Timestep(t=self.timestep))

    @property
    def normalised(self) -> bool:
        """Whether the last step stretches: affinity always does."""
        return self.affinity_order > 0 or self.rescaling.endswith(("maximum", "min-max"))

    @property
    def prompt_rule(self) -> PromptRule:
        """As the published code or the paper reads captions."""
        return PromptRule(self.captions, self.location)

    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Return what the weights of heads and layers, and the affinity, are made of."""
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
        """Aggregate, rescale and refine."""
        return self.refine(maps, self.word_scores(maps, self.aggregate(maps)))

    def aggregate(self, maps: AttentionMaps) -> Tensor:
        """Sum token maps over sites by weight, clamped at 0, as shares of all tokens: ``(tokens, height, width)``."""
        text = self._text(maps)
        weights = self.weights(maps, tuple(text))
        total: Tensor | None = None
        for site, weight in weights.items():
            share = weight * resized_tokens(text[site], maps.sites[site].grid, self.feature_size)
            total = share if total is None else total.add_(share)
        if total is None:
            raise ValueError("no site to aggregate")
        total = total.clamp(min=0)
        return shares(total) if self.safe_division else total / total.sum(0)

    def weights(self, maps: AttentionMaps, sites: tuple[str, ...]) -> Mapping[str, Tensor | float]:
        """Weigh sites; the weights sum to one."""
        if self._measure is None:
            return uniform_weights(sites)
        return layer_weights({site: maps.similarity[site, self._measure] for site in sites}, self.safe_division)

    def word_scores(self, maps: AttentionMaps, tokens: Tensor) -> ClassScores:
        """Rescale word maps; background is the strongest of the background words' maps, zero if there is none."""
        classes, background = merged_columns(maps.tokens)
        factor = tokens[rescaling_columns(maps.tokens)].sum(0)
        if self.safe_division and len({tuple(columns) for columns in classes + background if columns}) == 1:
            # Tokens that are alone have nobody to share with: their share is the same everywhere.
            factor = torch.ones_like(factor)
        class_maps, background_maps = (
            rescale(
                word_maps(tokens, words, self.safe_division, self.words), factor, self.rescaling, self.safe_division
            )
            for words in (classes, background)
        )
        evidence = peak_contrast(word_maps(tokens, classes, safe_division=True))
        return ClassScores(class_maps, strongest(background_maps), evidence)

    def refine(self, maps: AttentionMaps, scores: ClassScores) -> ClassScores:
        """Spread scores by self-attention; without background words their map stays zero."""
        if not self.affinity_order:
            return scores
        affinity = spatial_affinity(maps, self.affinity_sites, self.feature_size, self.renormalise_affinity)
        everything = torch.cat([scores.classes, scores.background[None]])
        if not any(columns for stream in maps.tokens for columns in stream.background):
            refined = propagate(scores.classes, affinity, self.affinity_order, self.safe_division)
            return replace(scores, classes=refined)
        refined = propagate(everything, affinity, self.affinity_order, self.safe_division)
        return ClassScores(refined[:-1], refined[-1], scores.evidence)

    def _text(self, maps: AttentionMaps) -> dict[str, Tensor]:
        """Text-to-pixel map of every site with its heads weighed, in execution order."""
        if self._weighting is None:
            text = maps.text
        else:
            text = {site: weighted for (site, rule), weighted in maps.weighted.items() if rule == self._weighting}
        return {site: text[site] for site in maps.sites if site in text}

    @property
    def _weighting(self) -> ContributionWeighting | None:
        weighting = HEAD_WEIGHTINGS[self.heads]
        return weighting and replace(weighting, safe_division=self.safe_division)

    @property
    def _measure(self) -> ReferenceAffinity | None:
        layers = self.layers
        if layers == "uniform":
            return None
        return ReferenceAffinity(self.reference_site, layers, self.reference_channels, self.renormalise_layers)
