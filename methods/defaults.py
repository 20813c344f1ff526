"""What a backbone's config recommends to methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AttentionKind = Literal["joint", "cross"]


@dataclass(frozen=True)
class MethodDefaults:
    """Values for the fields that a method requires and its own config leaves open."""

    image_size: int
    """Side of the image that the backbone is given, in pixels."""
    timestep: float
    """``t`` in 1..1000."""
    feature_size: int
    """Side of the class scores, in pixels."""
    affinity_sites: tuple[str, ...]
    """Sites whose self-attention refines the scores."""
    affinity_order: int
    """How often they refine them."""
    reference_site: str
    """The site whose features stand for the whole network (GoCA's layer weights)."""
    heads: str = "dot-product"
    """How GoCA weighs heads."""
    attention: AttentionKind = "cross"
    """Whether text and pixels share one softmax (``joint``) or pixels read text apart (``cross``)."""
    grounding_sites: tuple[str, ...] = ()
    """Sites whose text-to-pixel attention segments best by itself (Seg4Diff), by default the reference site."""

    def __post_init__(self) -> None:
        """Let the reference site stand for grounding sites that are not given."""
        object.__setattr__(self, "grounding_sites", tuple(self.grounding_sites) or (self.reference_site,))
