"""What a method asks of a backbone, and what it gets."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from ..text.tokens import StreamTokens
from .rules import HeadWeighting, LayerSimilarity
from .sites import Site


@dataclass(frozen=True)
class Timestep:
    """Noise level in the terms of the papers.

    Either ``t`` in 0..1000, resolved by the scheduler's own schedule (GoCA), or entry ``index`` of a schedule
    of ``steps`` inference steps (Seg4Diff: index -8 of 28).
    """

    t: float | None = None
    index: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.t is None) == (self.index is None or self.steps is None):
            raise ValueError("a timestep is either t, or index and steps")


@dataclass(frozen=True)
class CaptureSettings:
    """How an image becomes a noised latent; equal settings can share one forward.

    image_size: side of the square the image is resized to, in pixels. resize: ``bicubic`` straight to the
    square (GoCA), or to a ``shortest-edge`` first (Seg4Diff), then ``padded`` with black to multiples of 32.
    posterior: ``sample`` or ``mean`` of the VAE posterior. pixel_range: what the VAE is given, ``signed`` [-1, 1] as
    it was trained, or ``unit`` [0, 1] (Seg4Diff's released Flux). shift_by: the count that sets a dynamic resolution
    shift, ``image-tokens``, or ``latent-channels`` (the same).
    """

    image_size: int
    timestep: Timestep
    resize: Literal["bicubic", "shortest-edge", "shortest-edge-padded"] = "bicubic"
    posterior: Literal["sample", "mean"] = "sample"
    pixel_range: Literal["signed", "unit"] = "signed"
    shift_by: Literal["image-tokens", "latent-channels"] = "image-tokens"


@dataclass(frozen=True)
class Recommended:
    """What a backbone's config recommends to methods.

    image_size: in pixels. timestep: ``t`` in 0..1000. feature_size: side of the class scores.
    affinity_sites, affinity_order: self-attention that refines the scores, and how often.
    reference_site: whose features stand for the whole network (GoCA's layer weights). heads: how GoCA weighs heads.
    attention: ``joint`` over text and pixels, or ``cross`` to text. grounding_sites: whose text-to-pixel attention
    segments best by itself (Seg4Diff), by default the reference site.
    """

    image_size: int
    timestep: float
    feature_size: int
    affinity_sites: tuple[str, ...]
    affinity_order: int
    reference_site: str
    heads: str = "dot-product"
    attention: Literal["joint", "cross"] = "cross"
    grounding_sites: tuple[str, ...] = ()

    @property
    def grounding(self) -> tuple[str, ...]:
        """The grounding sites, or what stands for them."""
        return tuple(self.grounding_sites) or (self.reference_site,)


@dataclass(frozen=True)
class MapRequest:
    """What is wanted, by site name.

    text, pixels: text-to-pixel and pixel-to-pixel maps averaged over heads. weighted: text-to-pixel maps whose
    heads a rule weighs. similar: how alike a site is to the reference of a measure, without keeping its map.
    """

    text: frozenset[str] = frozenset()
    pixels: frozenset[str] = frozenset()
    weighted: frozenset[tuple[str, HeadWeighting]] = frozenset()
    similar: frozenset[tuple[str, LayerSimilarity]] = frozenset()

    def __or__(self, other: MapRequest) -> MapRequest:
        return MapRequest(
            self.text | other.text,
            self.pixels | other.pixels,
            self.weighted | other.weighted,
            self.similar | other.similar,
        )

    @property
    def sites(self) -> frozenset[str]:
        """Every site that has to be observed, references included."""
        return (
            self.text
            | self.pixels
            | {site for site, _ in self.weighted}
            | {name for site, measure in self.similar for name in (site, measure.reference_site)}
        )


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one image under one prompt.

    text: site -> float32 ``(pixels, tokens)``, tokens of all text streams side by side, averaged over heads.
    pixels: site -> ``(query pixels, key pixels)`` in the precision asked for, averaged over heads.
    weighted: (site, rule) -> as ``text``, heads weighed by the rule (averaged where a site has no out projection).
    similarity: (site, measure) -> float32 scalar. derived: what methods made of these maps and others may use again.
    Probabilities come from one softmax over all keys of the module, so a joint site's rows do not sum to one.
    """

    sites: dict[str, Site]
    tokens: tuple[StreamTokens, ...]
    text: dict[str, Tensor] = field(default_factory=dict)
    pixels: dict[str, Tensor] = field(default_factory=dict)
    weighted: dict[tuple[str, HeadWeighting], Tensor] = field(default_factory=dict)
    similarity: dict[tuple[str, LayerSimilarity], Tensor] = field(default_factory=dict)
    derived: dict[Hashable, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def only(self, request: MapRequest) -> AttentionMaps:
        """The part that ``request`` asks for, so that a method never sees what others asked for."""
        return replace(
            self,
            sites={name: site for name, site in self.sites.items() if name in request.sites},
            text={name: text for name, text in self.text.items() if name in request.text},
            pixels={name: pixels for name, pixels in self.pixels.items() if name in request.pixels},
            weighted={key: text for key, text in self.weighted.items() if key in request.weighted},
            similarity={key: number for key, number in self.similarity.items() if key in request.similar},
        )
