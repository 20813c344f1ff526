"""Layer similarities of one forward: maps are compared as soon as their reference is known, then let go."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .rules import LayerSimilarity, Similarity
from .sites import Site


class SimilarityStream:
    """Compares sites with references; features and maps come in any order.

    ``values`` is complete when every site and every reference was added.
    """

    def __init__(self, pairs: Iterable[tuple[str, LayerSimilarity]]) -> None:
        """Take the pairs of a site's name and a measure that are needed."""
        self.values: dict[tuple[str, LayerSimilarity], Tensor] = {}
        self._measures: dict[str, list[LayerSimilarity]] = {}
        for site, measure in sorted(pairs, key=lambda pair: (pair[0], repr(pair[1]))):
            self._measures.setdefault(site, []).append(measure)
        self._ready: dict[LayerSimilarity, Similarity] = {}
        self._pending: dict[LayerSimilarity, list[tuple[Site, Tensor]]] = {}

    def add_feature(self, site: Site, feature: Tensor) -> None:
        """Take the feature of a site, float32 ``(pixels, channels)``, as the reference of its measures."""
        for measure in dict.fromkeys(measure for measures in self._measures.values() for measure in measures):
            if measure.reference_site != site.name:
                continue
            self._ready[measure] = measure.bind(feature, site.grid)
            for earlier, pixels in self._pending.pop(measure, ()):
                self._compare(measure, earlier, pixels)

    def add_pixels(self, site: Site, pixels: Tensor) -> None:
        """Compare the pixel-to-pixel map of a site; it is kept only while a reference is missing."""
        for measure in self._measures.get(site.name, ()):
            if measure in self._ready:
                self._compare(measure, site, pixels)
            else:
                self._pending.setdefault(measure, []).append((site, pixels))

    def _compare(self, measure: LayerSimilarity, site: Site, pixels: Tensor) -> None:
        self.values[site.name, measure] = self._ready[measure](pixels, site.grid)
