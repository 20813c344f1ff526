"""Seg4Diff without words: token maps of an empty prompt are merged into nameless masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.requests import MapRequest
from ..backbones.attention.sites import Site
from ..backbones.latents.settings import CaptureSettings, Timestep
from .clustering import contrast_over_tokens, merge_greedily, spatial_distributions, symmetric_divergence
from .defaults import AttentionKind
from .method import ClassScores, Method, PromptRule
from .seg4diff import STEPS_FROM_THE_END


@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Seg4DiffUnsupervised(Method):
    """The unsupervised mode of arXiv 2509.18096: clusters of start, end and padding tokens' image-to-text attention.

    Scores are one map per cluster, for protocols that match clusters to classes.
    """

    image_size: int
    attention: AttentionKind
    """As of Seg4Diff."""
    grounding_sites: tuple[str, ...]
    """Sites whose attention is averaged."""
    threshold: float = 0.1
    """Token maps merge below this symmetric Kullback-Leibler divergence, in nats."""
    padded: bool = True
    """The image is padded to multiples of 32 before it is stretched, and so slightly squeezed."""
    steps: int = 28
    """Length of the schedule whose entry 8 from the end is used."""

    unnamed_masks = True
    quirks = MappingProxyType(
        {
            "threshold": "the threshold 0.1 is used; the configuration says 0.035 and is not read",
            "padded": "the image is padded to multiples of 32 and the padding never cut off again",
        }
    )

    @property
    def settings(self) -> CaptureSettings:
        """The image is resized as in the published code, at the entry of its schedule."""
        return CaptureSettings(
            image_size=self.image_size,
            timestep=Timestep(index=-STEPS_FROM_THE_END, steps=self.steps),
            resize="shortest-edge-padded" if self.padded else "shortest-edge",
            posterior="mean",
        )

    @property
    def normalised(self) -> bool:
        """Masks are matched by their strongest pixels; no threshold decides."""
        return True

    @property
    def prompt_rule(self) -> PromptRule:
        """The empty prompt."""
        return PromptRule("empty")

    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Return the text-to-pixel maps of the grounding sites."""
        return MapRequest(text=frozenset(self.grounding_sites))

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        """Merge the token maps of the first text stream."""
        grid = maps.sites[self.grounding_sites[0]].grid
        text = torch.stack([maps.text[site] for site in self.grounding_sites]).mean(0)
        first = maps.tokens[0]
        distributions = spatial_distributions(contrast_over_tokens(text[:, first.offset : first.offset + first.length]))
        merged = merge_greedily(distributions, symmetric_divergence(distributions), self.threshold)
        masks = merged.unflatten(1, (grid.height, grid.width))
        return ClassScores(masks, masks.new_zeros(grid.height, grid.width))
