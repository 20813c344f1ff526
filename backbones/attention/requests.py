"""What a method asks of a backbone."""

from __future__ import annotations

from dataclasses import dataclass

from .rules import HeadWeighting, LayerSimilarity


@dataclass(frozen=True)
class MapRequest:
    """What a method needs: attention maps by site name, and the prediction."""

    text: frozenset[str] = frozenset()
    """Sites whose text-to-pixel maps are needed, averaged over heads."""
    pixels: frozenset[str] = frozenset()
    """Sites whose pixel-to-pixel maps are needed, averaged over heads."""
    weighted: frozenset[tuple[str, HeadWeighting]] = frozenset()
    """Sites whose text-to-pixel maps are needed with heads weighed by a rule."""
    similar: frozenset[tuple[str, LayerSimilarity]] = frozenset()
    """Sites to compare with the reference of a measure, without keeping their maps."""

    picture: bool = False
    """Whether the picture is needed that the denoiser predicts."""

    def __or__(self, other: MapRequest) -> MapRequest:
        """Everything that either request asks for."""
        return MapRequest(
            self.text | other.text,
            self.pixels | other.pixels,
            self.weighted | other.weighted,
            self.similar | other.similar,
            self.picture or other.picture,
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
