"""From a request to what is kept of every module, and from what was kept to attention maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..text.tokens import StreamTokens
from .layer_similarity import SimilarityStream
from .maps import AttentionMaps
from .recorder import Observation, Target
from .requests import MapRequest
from .rules import HeadWeighting
from .sites import Site
from .ways import Way

JointColumns = Callable[[Site], tuple[slice, slice]]
EVERYTHING = slice(None)


def module_targets(
    sites: Mapping[str, Site], request: MapRequest, joint_columns: JointColumns, layers_way: Way
) -> dict[str, Target]:
    """Say what to keep of every module; where a site has no out projection, heads are averaged.

    Args:
        sites: The sites to observe, by name.
        request: What is needed of them.
        joint_columns: Gives image rows and text columns of a joint site's sequence.
        layers_way: As of ``Ways``.
    """
    mapped = _mapped_sites(sites, request, layers_way)
    weightings = _weightings_by_site(request)
    targets: dict[str, Target] = {}
    for site in sites.values():
        needs = _needs(site, request, weightings.get(site.name, ()), site.name in mapped)
        if site.kind == "joint" and site.text_module is not None:
            image, words = joint_columns(site)
            pixels = image if needs.pixels else None
            targets[site.text_module] = _text_target(site, needs, image, words, pixels)
        else:
            targets |= _separate_targets(site, needs)
    return targets


class MapGatherer:
    """Puts the observations of modules together as attention maps, one for each row; an observer of a probe."""

    def __init__(self, sites: dict[str, Site], tokens: Sequence[tuple[StreamTokens, ...]], request: MapRequest) -> None:
        """Start with no maps; ``tokens`` are those of every row."""
        self._rows = [_Row(AttentionMaps(sites, row), SimilarityStream(request.similar)) for row in tokens]
        self._request = request
        self._weightings = _weightings_by_site(request)
        self._site_of = {module: site for site in sites.values() for module in (site.text_module, site.pixel_module)}

    def __call__(self, module: str, observation: Observation) -> None:
        """Take out what was asked for and let the rest go."""
        site = self._site_of[module]
        for index, row in enumerate(self._rows):
            row.maps.ways[module] = observation.way
            self._gather_text(row.maps, index, site, observation)
            self._gather_pixels(row, index, site, observation)
        # Maps are large: from here on only those who asked hold them.
        observation.pixels = observation.feature = observation.attention = None

    def _gather_text(self, maps: AttentionMaps, row: int, site: Site, observation: Observation) -> None:
        if site.name in self._request.text and observation.text is not None:
            maps.text[site.name] = observation.text[row]
        for rule in self._weightings.get(site.name, ()):
            text = observation.weighted.get(rule, observation.text)
            if text is not None:
                maps.weighted[site.name, rule] = text[row]

    def _gather_pixels(self, row: _Row, index: int, site: Site, observation: Observation) -> None:
        if observation.feature is not None:
            row.similarities.add_feature(site, observation.feature[index])
        if observation.attention is not None:
            row.similarities.add(site, observation.attention[index])
        if observation.pixels is not None:
            row.similarities.add(site, observation.pixels[index])
            if site.name in self._request.pixels:
                row.maps.pixels[site.name] = observation.pixels[index]

    def gathered(self) -> list[AttentionMaps]:
        """Return the maps of every row, once every module was observed."""
        for row in self._rows:
            row.maps.similarity.update(row.similarities.values)
        return [row.maps for row in self._rows]


@dataclass(frozen=True)
class _Row:
    """What is gathered of one row of the batch."""

    maps: AttentionMaps
    similarities: SimilarityStream


@dataclass(frozen=True)
class _Needs:
    """What is needed of one site."""

    text: bool
    mean: bool
    rules: tuple[HeadWeighting, ...]
    pixels: bool
    mapped: bool
    """Whether pixels are needed as a map."""
    reference: bool


def _mapped_sites(sites: Mapping[str, Site], request: MapRequest, layers_way: Way) -> frozenset[str]:
    """Sites whose pixel-to-pixel map is needed itself."""
    compared = {
        name
        for name, measure in request.similar
        if layers_way == "chunked" or measure.needs_map or sites[name].grid != sites[measure.reference_site].grid
    }
    return request.pixels | compared


def _needs(site: Site, request: MapRequest, weightings: Sequence[HeadWeighting], mapped: bool) -> _Needs:
    rules = tuple(rule for rule in weightings if site.projection or not rule.needs_projection)
    mean = site.name in request.text or len(rules) < len(weightings)
    compared = any(name == site.name for name, _ in request.similar)
    reference = any(measure.reference_site == site.name for _, measure in request.similar)
    return _Needs(mean or bool(rules), mean, rules, compared or mapped, mapped, reference)


def _text_target(site: Site, needs: _Needs, queries: slice, words: slice, pixels: slice | None) -> Target:
    return Target(
        queries=queries,
        text=words if needs.text else None,
        pixels=pixels,
        needs_map=needs.mapped,
        mean=needs.mean,
        weightings=needs.rules,
        projection=site.projection,
        feature=None if not needs.reference else "output" if site.kind == "joint" else "query",
    )


def _separate_targets(site: Site, needs: _Needs) -> dict[str, Target]:
    targets: dict[str, Target] = {}
    if site.text_module and (needs.text or needs.reference):
        targets[site.text_module] = _text_target(site, needs, EVERYTHING, EVERYTHING, None)
    if site.pixel_module and needs.pixels:
        targets[site.pixel_module] = Target(queries=EVERYTHING, pixels=EVERYTHING, needs_map=needs.mapped)
    return targets


def _weightings_by_site(request: MapRequest) -> dict[str, list[HeadWeighting]]:
    weightings: dict[str, list[HeadWeighting]] = {}
    for site, rule in sorted(request.weighted, key=repr):
        weightings.setdefault(site, []).append(rule)
    return weightings
