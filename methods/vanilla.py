"""Vanilla cross-attention: heads and layers averaged, min-max per word, self-attention affinity."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segscale.registry import METHODS

from ..backbones.maps import AttentionMaps, CaptureSettings, MapRequest, Recommended, Timestep
from ..backbones.sites import Site
from .affinity import propagate, spatial_affinity
from .layers import aggregate, uniform_weights
from .method import ClassScores, Method
from .rescaling import blur, merged_columns, min_max, strongest, word_maps


@METHODS.register_module()
class Vanilla(Method):
    """The plain baseline of GoCA's paper (its published ``vanilla`` configuration).

    text_sites: sites whose text-to-pixel maps are averaged, None for all. The other parameters are the
    backbone's recommended ones unless given. Without a background word the background map is all zeros.
    """

    def __init__(
        self,
        name: str,
        recommended: Recommended,
        text_sites: Sequence[str] | None = None,
        affinity_sites: Sequence[str] | None = None,
        affinity_order: int | None = None,
        timestep: float | None = None,
        feature_size: int | None = None,
    ) -> None:
        self.name = name
        self.text_sites = None if text_sites is None else tuple(text_sites)
        self.affinity_order = recommended.affinity_order if affinity_order is None else affinity_order
        self.affinity_sites = tuple(recommended.affinity_sites if affinity_sites is None else affinity_sites)
        self.side = recommended.feature_size if feature_size is None else feature_size
        self._settings = CaptureSettings(
            image_size=recommended.image_size,
            timestep=Timestep(t=recommended.timestep if timestep is None else timestep),
        )

    @property
    def settings(self) -> CaptureSettings:
        return self._settings

    def request(self, sites: Sequence[Site]) -> MapRequest:
        text = self.text_sites or tuple(site.name for site in sites if site.text_module)
        return MapRequest(frozenset(text), frozenset(self.affinity_sites if self.affinity_order else ()))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        sites = self.text_sites or tuple(maps.text)
        tokens = aggregate(maps, uniform_weights(sites), self.side)
        classes, background = merged_columns(maps.tokens)
        scores = min_max(blur(word_maps(tokens, classes)))
        words = word_maps(tokens, background)
        rest = strongest(min_max(blur(words)) if len(words) else words, (self.side, self.side))
        if not self.affinity_order:
            return ClassScores(scores, rest)
        affinity = spatial_affinity(maps, self.affinity_sites, self.side)
        if not background:
            return ClassScores(propagate(scores, affinity, self.affinity_order), rest)
        refined = propagate(torch.cat([scores, rest[None]]), affinity, self.affinity_order)
        return ClassScores(refined[:-1], refined[-1])
