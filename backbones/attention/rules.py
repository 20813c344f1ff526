"""What a method wants computed while attention is observed, so that no map has to be kept whole for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from .agreement import PixelAttention
from .sites import Grid

HeadWeights = Callable[[Tensor], Tensor]
Similarity = Callable[[Tensor, Grid], Tensor]
AttentionSimilarity = Callable[[PixelAttention], Tensor]


class HeadWeighting(ABC):
    """A rule that combines the heads of one site, pixel by pixel. Equal rules are computed once, by their hash."""

    needs_projection: ClassVar[bool] = True
    """Whether heads of a module without an out projection are averaged instead."""

    @abstractmethod
    def bind(self, projection: Tensor | None, values: Tensor) -> HeadWeights:
        """Return the rule at one module.

        Args:
            projection: Weight of the out projection, float32 ``(channels, heads * width)``, if it is needed.
            values: float32 ``(..., heads, text tokens, width)``, of a batch or of one image.

        Returns:
            A function from the heads' attention outputs, float32 ``(..., heads, pixels, width)``, to weights
            ``(..., heads, pixels)``.
        """


class LayerSimilarity(ABC):
    """A measure of how alike a site's pixel-to-pixel map is to a reference site. Hashable."""

    reference_site: str

    @abstractmethod
    def bind(self, feature: Tensor, grid: Grid) -> Similarity:
        """Return the measure for one reference feature, float32 ``(pixels, channels)`` on ``grid``.

        Returns:
            A function from a pixel-to-pixel map ``(pixels, pixels)`` of any precision, and its grid, to a float32
            scalar.
        """

    @property
    def needs_map(self) -> bool:
        """Whether a site of the reference's own grid needs its pixel-to-pixel map, and ``bind_attention`` is none."""
        return True

    def bind_attention(self, feature: Tensor) -> AttentionSimilarity:
        """Return the measure for one reference feature, from the attention of sites of its grid."""
        raise NotImplementedError
