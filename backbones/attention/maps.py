"""What a backbone gives a method: attention maps and the prediction of one image under one prompt."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..text.tokens import StreamTokens
from .requests import MapRequest
from .rules import HeadWeighting, LayerSimilarity
from .sites import Site
from .ways import Way


@dataclass(frozen=True)
class AttentionMaps:
    """Attention, and what else a forward gives, of one image under one prompt.

    Probabilities come from one softmax over all keys of a module, so the rows of a joint site's text-to-pixel map do
    not sum to one.
    """

    sites: dict[str, Site]
    tokens: tuple[StreamTokens, ...]
    text: dict[str, Tensor] = field(default_factory=dict)
    """By site: float32 ``(pixels, tokens)``, the tokens of all text streams side by side, averaged over heads."""
    pixels: dict[str, Tensor] = field(default_factory=dict)
    """By site: ``(query pixels, key pixels)`` in the precision asked for, averaged over heads."""
    weighted: dict[tuple[str, HeadWeighting], Tensor] = field(default_factory=dict)
    """By site and rule: as ``text``, heads weighed by the rule, or averaged where the site has no out projection."""
    similarity: dict[tuple[str, LayerSimilarity], Tensor] = field(default_factory=dict)
    """By site and measure: a float32 scalar."""
    picture: Tensor | None = None
    """The clean picture that the denoiser predicts in one step, decoded: float32 ``(3, size, size)`` in [-1, 1]."""
    ways: dict[str, Way] = field(default_factory=dict, compare=False)
    """By module: how it was observed."""
    shared_cache: dict[Hashable, Tensor] = field(default_factory=dict, compare=False, repr=False)
    """What methods made of these maps and other methods may use again."""

    def only(self, request: MapRequest) -> AttentionMaps:
        """Return the part that ``request`` asks for, so that a method never sees what others asked for."""
        return replace(
            self,
            sites={name: site for name, site in self.sites.items() if name in request.sites},
            text={name: text for name, text in self.text.items() if name in request.text},
            pixels={name: pixels for name, pixels in self.pixels.items() if name in request.pixels},
            weighted={key: text for key, text in self.weighted.items() if key in request.weighted},
            similarity={key: number for key, number in self.similarity.items() if key in request.similar},
            picture=self.picture if request.picture else None,
        )
