"""How an image becomes a noised latent: what a method states, and forwards are shared by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Timestep:
    """A noise level in the terms of the papers: either ``t``, or ``index`` and ``steps``."""

    t: float | None = None
    """In 1..1000, resolved by the scheduler's own schedule (GoCA)."""
    index: int | None = None
    """The entry of a schedule of ``steps`` inference steps (Seg4Diff: index -8 of 28)."""
    steps: int | None = None

    def __post_init__(self) -> None:
        """Hold the value to one of its two forms."""
        if (self.t is None) == (self.index is None or self.steps is None):
            raise ValueError("a timestep is either t, or index and steps")


@dataclass(frozen=True)
class CaptureSettings:
    """How an image becomes a noised latent. Methods with equal settings can share one forward."""

    image_size: int
    """Side of the square that the image is resized to, in pixels."""
    timestep: Timestep
    resize: Literal["bicubic", "shortest-edge", "shortest-edge-padded"] = "bicubic"
    """``bicubic`` goes straight to the square (GoCA), the others to a shortest edge first (Seg4Diff), of which
    ``shortest-edge-padded`` also pads with black to multiples of 32."""
    posterior: Literal["sample", "mean"] = "sample"
    """What is taken of the VAE's posterior."""
    pixel_range: Literal["signed", "unit"] = "signed"
    """What the VAE is given: [-1, 1], as it was trained, or [0, 1] (Seg4Diff's released Flux)."""
    drawn: Literal["picture", "mask"] = "picture"
    """What is noised: the picture itself, or a mask that is drawn beside the clean picture, at pure noise."""
    shift_by: Literal["image-tokens", "latent-channels"] = "image-tokens"
    """The count that sets a dynamic resolution shift; Seg4Diff's released Flux takes the latent channels."""


@dataclass(frozen=True)
class SamplingDefaults:
    """How a backbone draws pictures, as its config recommends."""

    steps: int
    """Inference steps of its scheduler."""
    guidance: float
    """Scale of classifier-free guidance; 1 or less: none, as of distilled models."""
    arguments: dict[str, object] = field(default_factory=dict)
    """Of the backbone, where pictures want others than maps: its embedded guidance, the length of its texts."""
