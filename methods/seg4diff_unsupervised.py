"""Seg4Diff without words: token maps of an empty prompt are merged into nameless masks."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps, CaptureSettings, MapRequest, Recommended, Timestep
from ..backbones.attention.sites import Site
from .clustering import contrast_over_tokens, merge_greedily, spatial_distributions, symmetric_divergence
from .method import ClassScores, Method, PromptRule
from .seg4diff import STEPS_FROM_THE_END


@METHODS.register_module()
class Seg4DiffUnsupervised(Method):
    """The unsupervised mode of arXiv 2509.18096: clusters of start, end and padding tokens' image-to-text attention.

    Scores are one map per cluster, for protocols that match clusters to classes. threshold: of the symmetric
    Kullback-Leibler divergence, in nats; 0.1 is what the published code uses, 0.035 what its configuration says.
    padded: the image is padded to multiples of 32 before it is stretched, and so slightly squeezed (published).
    """

    clusters = True
    quirks = MappingProxyType(
        {
            "threshold": "the threshold 0.1 is used; the configuration says 0.035 and is not read",
            "padded": "the image is padded to multiples of 32 and the padding never cut off again",
        }
    )

    def __init__(
        self,
        name: str,
        recommended: Recommended,
        sites: Sequence[str] | None = None,
        threshold: float = 0.1,
        padded: bool = True,
        steps: int = 28,
    ) -> None:
        self.name = name
        self.sites = tuple(sites or recommended.grounding)
        self.attention = recommended.attention
        self.threshold = threshold
        self._settings = CaptureSettings(
            image_size=recommended.image_size,
            timestep=Timestep(index=-STEPS_FROM_THE_END, steps=steps),
            resize="shortest-edge-padded" if padded else "shortest-edge",
            posterior="mean",
        )

    @property
    def settings(self) -> CaptureSettings:
        return self._settings

    @property
    def prompt(self) -> PromptRule:
        return PromptRule("empty")

    def request(self, sites: Sequence[Site]) -> MapRequest:
        return MapRequest(text=frozenset(self.sites))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        grid = maps.sites[self.sites[0]].grid
        text = torch.stack([maps.text[site] for site in self.sites]).mean(0)
        first = maps.tokens[0]
        distributions = spatial_distributions(contrast_over_tokens(text[:, first.offset : first.offset + first.length]))
        merged = merge_greedily(distributions, symmetric_divergence(distributions), self.threshold)
        found = merged.unflatten(1, (grid.height, grid.width))
        return ClassScores(found, found.new_zeros(grid.height, grid.width))
