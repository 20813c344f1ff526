"""What a method wants computed while attention is observed, so that no map has to wait for it whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from .sites import Grid

HeadWeights = Callable[[Tensor], Tensor]
Similarity = Callable[[Tensor, Grid], Tensor]


class HeadWeighting(ABC):
    """A rule for combining the heads of one site, pixel by pixel. Hashable: equal rules are computed once.

    needs_projection: heads of a module without an out projection are averaged instead.
    """

    needs_projection: ClassVar[bool] = True

    @abstractmethod
    def at(self, projection: Tensor | None, values: Tensor) -> HeadWeights:
        """The rule at one module.

        projection: float32 ``(channels, heads * width)``, weight of the out projection, if needed. values: float32
        ``(heads, text tokens, width)``. Returns a function from the heads' attention outputs, float32
        ``(heads, pixels, width)``, to weights ``(heads, pixels)``.
        """


class LayerSimilarity(ABC):
    """A measure of how alike a site's pixel-to-pixel map is to a reference site. Hashable."""

    reference_site: str

    @abstractmethod
    def against(self, feature: Tensor, grid: Grid) -> Similarity:
        """The measure against one reference feature, float32 ``(pixels, channels)`` on ``grid``.

        Returns a function from a pixel-to-pixel map ``(pixels, pixels)`` of any precision, and its grid, to a float32
        scalar.
        """
