"""What decides how masks are aligned, as Seg4Diff's code does it or as its paper describes it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from segscale.prompt import Location

Reading = Literal["published", "described"]
Targets = Literal["named", "matched"]


@dataclass(frozen=True)
class AlignmentRules:
    """Where published code and paper differ."""

    every_block: bool
    """Whether the LoRA is on all blocks, or on the expert block alone."""
    convolution: bool
    """Whether a small network that evaluation leaves out stands between scores and masks."""
    raw_focal: bool
    """Whether the focal loss takes logits for probabilities."""
    names_alone: bool
    """Whether the prompt is the names of the classes, or what the protocol prompts, where masks have names."""
    location: Location
    """How words become token columns."""


READINGS = MappingProxyType(
    {
        "published": AlignmentRules(
            every_block=True, convolution=True, raw_focal=True, names_alone=True, location="token-id"
        ),
        "described": AlignmentRules(
            every_block=False, convolution=False, raw_focal=False, names_alone=False, location="span"
        ),
    }
)


@dataclass(frozen=True)
class AlignmentSettings:
    """How masks are aligned; the defaults are those of the published code on COCO."""

    reading: Reading = "published"
    targets: Targets = "named"
    """``named``: the mask of every prompted class, whose map is that of its tokens (COCO). ``matched``: the masks of
    all labels, and whichever head's and token's map fits each best (SA-1B, whose masks have no names); the prompt is
    then what the protocol prompts."""
    rank: int = 16
    """Of the LoRA; its alpha is the same."""
    steps: int = 3000
    images: int = 16
    """Of a step."""
    learning_rate: float = 1e-5
    """Of the LoRA at its highest."""
    head_learning_rate: float = 1e-4
    """Of the convolution, where there is one."""
    warm_up: int = 500
    """Steps until the rate is highest; it falls by a cosine after."""
    focal: float = 0.1
    """Weight of the focal loss beside the denoising loss."""
    dice: float = 0.2
    """Weight of the dice loss."""
    seed: int = 0
    """Of images, noise, timesteps and the LoRA's first weights."""

    @property
    def asks_names_alone(self) -> bool:
        """Whether the prompt is the names of the classes."""
        return self.rules.names_alone and self.targets == "named"

    @property
    def rules(self) -> AlignmentRules:
        """What the reading means."""
        return READINGS[self.reading]


WEIGHT_DECAY = 1e-4
GRADIENT_NORM = 0.01
SIGMA_SPREAD = 0.5
"""Noise levels are the sigmoid of normal draws of this spread."""
