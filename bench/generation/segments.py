"""Segments of a picture in the making, from the attention of the very step that guidance changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...backbones.attention.maps import AttentionMaps
from ...backbones.attention.requests import MapRequest
from ...backbones.attention.sites import Grid, Site, text_sites
from ...backbones.backbone import Backbone
from ...backbones.text.tokens import StreamTokens
from ...methods.affinity import propagate, spatial_affinity
from ...methods.build import build_method
from ...methods.goca import GoCA
from ...methods.rescaling import blur, is_constant, min_max
from .choices import GuidanceReading
from .rates import SMALLEST, Segments, smoothed

FOREGROUND_BELOW = 0.5
POWERS = 4
COARSE = (4, 8)
"""By what the latent's sides are divided in the sites that S-CFG's published code reads."""


class Segmenter(ABC):
    """Makes segments of the maps of a picture's conditional and unconditional row."""

    @abstractmethod
    def request(self, sites: Sequence[Site], size: Grid) -> MapRequest:
        """Return the maps that it reads of both rows of a picture whose latent is of ``size``."""

    @abstractmethod
    def __call__(self, conditional: AttentionMaps, unconditional: AttentionMaps, size: Grid) -> Segments | None:
        """Segment a picture whose latent is of ``size``; None where its prompt says nothing."""


@dataclass(frozen=True)
class GocaSegmenter(Segmenter):
    """GoCA's token maps (arXiv 2603.06178, guided generation).

    Heads and layers are weighed by the dot product. Every token of the prompt but start, end and padding competes for
    the pixels. The foreground is where the first special token of the row without prompt (CLIP's start, T5's end) is
    weak, after the conditional row's affinity and a blur.
    """

    method: GoCA

    @staticmethod
    def on(backbone_name: str, reading: GuidanceReading) -> GocaSegmenter:
        """As the published code of GoCA computes maps, or as its paper describes them; a constant map is never NaN."""
        name = "goca" if reading == "published" else "goca-described"
        chosen = {"heads": "dot-product", "layers": "dot-product", "rescaling": "share+min-max", "safe_division": True}
        method = build_method(name, backbone_name, **chosen)
        assert isinstance(method, GoCA)
        return GocaSegmenter(method)

    def request(self, sites: Sequence[Site], size: Grid) -> MapRequest:
        del size  # the same sites at every size
        return self.method.request(sites)

    def __call__(self, conditional: AttentionMaps, unconditional: AttentionMaps, size: Grid) -> Segments | None:
        tokens = content_words(conditional.tokens)
        if not tokens[0].classes:
            return None
        scores = self.method(replace(conditional, tokens=tokens)).classes
        return Segments(resized(scores, size).argmax(0), self._foreground(conditional, unconditional, size))

    def _foreground(self, conditional: AttentionMaps, unconditional: AttentionMaps, size: Grid) -> Tensor:
        method = self.method
        shares = self.method.aggregate(unconditional)
        background = shares[unconditional.tokens[0].special[0]][None]
        if method.affinity_order:
            side = method.feature_size
            affinity = spatial_affinity(conditional, method.affinity_sites, side, method.renormalise_affinity)
            background = propagate(background, affinity, method.affinity_order, safe_division=True)
        return resized(min_max(blur(background), safe_division=True), size)[0] < FOREGROUND_BELOW


@dataclass(frozen=True)
class ScfgSegmenter(Segmenter):
    """S-CFG's token maps (arXiv 2404.05384): attention on text, spread by powers of self-attention.

    Of each site, with C its attention on text, S its self-attention and S' a mean of powers of S, the maps S' C are
    brought to the latent's size and smoothed like rates. Each is divided by its spatial mean, and sites are added. All
    tokens of the conditional row compete, special ones too. The foreground is where in the unconditional row the first
    special token does not win against the sum of all others, each over its mean; it is everything where that row looks
    everywhere alike.

    The published code reads the sites of a quarter and an eighth of the latent's size alone, smooths and compares maps
    of a quarter of it, and repeats their pixels. Where a backbone has no such site, all are read, at the latent's size.
    """

    reading: GuidanceReading
    """``published``: coarse sites, and S' = (S + 3 S S) / 4, as its loop squares anew; ``described``: all sites at the
    latent's size, and S' = (S + S^2 + S^3 + S^4) / 4."""

    def request(self, sites: Sequence[Site], size: Grid) -> MapRequest:
        read = text_sites(sites)
        if self.reading == "published":
            read = {name: site for name, site in read.items() if _is_coarse(site.grid, size)} or read
        pixels = frozenset(name for name, site in read.items() if site.pixel_module is not None)
        return MapRequest(text=frozenset(read), pixels=pixels)

    def __call__(self, conditional: AttentionMaps, unconditional: AttentionMaps, size: Grid) -> Segments:
        is_coarse = self.reading == "published" and all(_is_coarse(s.grid, size) for s in conditional.sites.values())
        compared = Grid(size.height // COARSE[0], size.width // COARSE[0]) if is_coarse else size
        region = torch.stack([_balanced(each) for each in self._spread(conditional, compared)]).sum(0).argmax(0)
        return Segments(repeated(region, size), repeated(self._foreground(unconditional, compared), size))

    def _foreground(self, unconditional: AttentionMaps, size: Grid) -> Tensor:
        start = unconditional.tokens[0].special[0]
        # Rounding would choose the foreground where all pixels look alike, which spreading them hides.
        flat = [words.T[:, None] for words in unconditional.text.values()]
        even = torch.stack([is_constant(_against_others(words, start)).all() for words in flat]).all()
        spread = [_balanced(_against_others(words, start)) for words in self._spread(unconditional, size)]
        return (torch.stack(spread).sum(0).argmax(0) != 0) | even

    def _spread(self, maps: AttentionMaps, size: Grid) -> Iterator[Tensor]:
        """Of every site the map of each token, ``(tokens, height, width)`` of the latent."""
        for site in maps.sites.values():
            if site.name not in maps.text:
                continue
            words = maps.text[site.name].float()
            if site.name in maps.pixels:
                words = self._spread_by(maps.pixels[site.name].float(), words)
            yield smoothed(resized(words.T.unflatten(1, (site.grid.height, site.grid.width)), size))

    def _spread_by(self, attention: Tensor, words: Tensor) -> Tensor:
        """S' C of a site. Powers of S are never formed: they cost its pixels cubed."""
        once = attention @ words
        if self.reading == "published":
            return (once + (POWERS - 1) * (attention @ once)) / POWERS
        total = power = once
        for _ in range(POWERS - 1):
            power = attention @ power
            total = total + power
        return total / POWERS


def _is_coarse(grid: Grid, size: Grid) -> bool:
    return any((grid.height, grid.width) == (size.height // by, size.width // by) for by in COARSE)


def repeated(values: Tensor, size: Grid) -> Tensor:
    """Pixels ``(height, width)`` of a coarser grid at the latent's size, each repeated."""
    wanted = (size.height, size.width)
    if values.shape == wanted:
        return values
    return F.interpolate(values[None, None].float(), size=wanted, mode="nearest")[0, 0].to(values.dtype)


def _against_others(maps: Tensor, token: int) -> Tensor:
    """The map of one token and the sum of all others', ``(2, height, width)``."""
    return torch.stack([maps[token], maps[:token].sum(0) + maps[token + 1 :].sum(0)])


def _balanced(maps: Tensor) -> Tensor:
    """Maps ``(n, height, width)``, each over its spatial mean."""
    return maps / (maps.mean((1, 2), keepdim=True) + SMALLEST)


def content_words(streams: Sequence[StreamTokens]) -> tuple[StreamTokens, ...]:
    """The streams as if every token but start, end and padding were a class of its own, and there were no other."""
    columns = [stream.words for stream in streams]
    before = 0
    words: list[StreamTokens] = []
    total = sum(len(own) for own in columns)
    for stream, own in zip(streams, columns, strict=True):
        after = total - before - len(own)
        classes = (*[()] * before, *((column,) for column in own), *[()] * after)
        words.append(replace(stream, classes=classes, background=()))
        before += len(own)
    return tuple(words)


def resized(maps: Tensor, size: Grid) -> Tensor:
    """Maps ``(n, height, width)`` at the latent's size, bilinearly."""
    wanted = (size.height, size.width)
    if maps.shape[1:] == wanted:
        return maps
    return F.interpolate(maps[None], size=wanted, mode="bilinear", align_corners=False)[0]


def segmenter(method: str, backbone: Backbone, reading: GuidanceReading) -> Segmenter:
    """The segmenter of a guidance method."""
    return ScfgSegmenter(reading) if method == "s-cfg" else GocaSegmenter.on(backbone.name, reading)
