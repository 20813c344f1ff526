"""What a command may choose about pictures. Imports no model library, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GuidanceMethod = Literal["cfg"]


@dataclass(frozen=True)
class SamplingChoices:
    """What a command names of the settings; None: as the backbone's config recommends."""

    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    guidance_method: GuidanceMethod = "cfg"
