"""Layer similarities of one forward: sites are compared as soon as their reference is known, then let go."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from torch import Tensor

from .agreement import PixelAttention
from .rules import AttentionSimilarity, LayerSimilarity, Similarity
from .sites import Grid, Site

Compared = Tensor | PixelAttention
"""A site's pixel-to-pixel map, or what it follows from."""


class SimilarityStream:
    """Compares sites with references; features and sites come in any order.

    ``values`` is complete when every site and every reference was added.
    """

    def __init__(self, pairs: Iterable[tuple[str, LayerSimilarity]]) -> None:
        """Take the pairs of a site's name and a measure that are needed."""
        self.values: dict[tuple[str, LayerSimilarity], Tensor] = {}
        self._measures: dict[str, list[LayerSimilarity]] = {}
        for site, measure in sorted(pairs, key=lambda pair: (pair[0], repr(pair[1]))):
            self._measures.setdefault(site, []).append(measure)
        self._ready: dict[LayerSimilarity, _Reference] = {}
        self._pending: dict[LayerSimilarity, list[tuple[Site, Compared]]] = {}

    def add_feature(self, site: Site, feature: Tensor) -> None:
        """Take the feature of a site, float32 ``(pixels, channels)``, as the reference of its measures."""
        for measure in dict.fromkeys(measure for measures in self._measures.values() for measure in measures):
            if measure.reference_site != site.name:
                continue
            self._ready[measure] = _Reference(measure, feature, site.grid)
            for earlier, compared in self._pending.pop(measure, ()):
                self._compare(measure, earlier, compared)

    def add(self, site: Site, compared: Compared) -> None:
        """Compare a site; what it is compared by is kept only while a reference is missing."""
        for measure in self._measures.get(site.name, ()):
            if measure in self._ready:
                self._compare(measure, site, compared)
            else:
                self._pending.setdefault(measure, []).append((site, compared))

    def _compare(self, measure: LayerSimilarity, site: Site, compared: Compared) -> None:
        reference = self._ready[measure]
        if isinstance(compared, PixelAttention):
            self.values[site.name, measure] = reference.of_attention(compared)
        else:
            self.values[site.name, measure] = reference.of_map(compared, site.grid)


class _Reference:
    """A measure at its reference; what it needs for maps is large and made only where there are maps."""

    def __init__(self, measure: LayerSimilarity, feature: Tensor, grid: Grid) -> None:
        self.measure, self.feature, self.grid = measure, feature, grid

    @cached_property
    def of_map(self) -> Similarity:
        return self.measure.bind(self.feature, self.grid)

    @cached_property
    def of_attention(self) -> AttentionSimilarity:
        return self.measure.bind_attention(self.feature)
