"""What a command may choose about pictures. Imports no model library, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GuidanceMethod = Literal["cfg", "s-cfg", "goca-s-cfg", "perturbed", "blurred-block"]
PERTURBING: tuple[GuidanceMethod, ...] = ("perturbed", "blurred-block")
"""Those that blur the attention on text of one block."""
GuidanceReading = Literal["published", "described"]
"""How segments for guidance are made."""


@dataclass(frozen=True)
class SamplingChoices:
    """What a command names of the settings; None: as the backbone's config recommends."""

    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    guidance_method: GuidanceMethod = "cfg"
    guidance_reading: GuidanceReading = "published"
    guidance_site: str | None = None
    guidance_width: float = 0.1


@dataclass(frozen=True)
class Networks:
    """Networks that look at pictures of real images' captions; None where none is named."""

    inception: Path | None = None
    """TorchScript file, for the FID."""
    clip: str | None = None
    """Local folder or hub id, for the CLIP score."""


@dataclass(frozen=True)
class ScalingQuestion:
    """Which runs and pictures are joined. Variants of the protocol or of a method take no part."""

    dataset_name: str
    protocol_name: str
    method_names: tuple[str, ...]
    split: str | None = None
    """None: the only one that there is."""
    seed: int | None = None
    """Of runs and of pictures; None: the only one that there is."""
