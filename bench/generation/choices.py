"""What a command may choose about pictures. Imports no model library, so that the command line starts at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

CAPTIONS = "pocket-captions"
"""The dataset whose captions are drawn where none is named; the shipped judge understands them."""
GuidanceMethod = Literal["cfg", "s-cfg", "goca-s-cfg", "perturbed", "blurred-block"]
PERTURBING: tuple[GuidanceMethod, ...] = ("perturbed", "blurred-block")
"""Those that blur the attention on text of one block."""
SEGMENTING: tuple[GuidanceMethod, ...] = ("s-cfg", "goca-s-cfg")
"""Those that guide by segments."""
IDLE_WITHOUT_GUIDANCE: tuple[GuidanceMethod, ...] = (*SEGMENTING, "perturbed")
"""Those that change nothing at a scale of 1 or less."""
GuidanceReading = Literal["published", "described"]
"""How segments for guidance are made."""
READ_BY: Mapping[str, tuple[GuidanceMethod, ...]] = MappingProxyType(
    {"guidance_reading": SEGMENTING, "guidance_site": PERTURBING, "guidance_width": PERTURBING}
)
"""Choices that some guidance methods alone read."""


@dataclass(frozen=True)
class SamplingChoices:
    """What a command names of the settings; None: as the backbone's config recommends."""

    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    guidance_method: GuidanceMethod = "cfg"
    guidance_reading: GuidanceReading | None = None
    guidance_site: str | None = None
    guidance_width: float | None = None
    shared_noise: bool = False
    """Whether all pictures start at the same noise."""

    def unread_by(self, methods: Iterable[GuidanceMethod]) -> list[str]:
        """Names of what was chosen and none of the guidance methods reads."""
        asked = {*methods}
        return [name for name, read in READ_BY.items() if getattr(self, name) is not None and not asked & {*read}]

    @property
    def name_parts(self) -> tuple[str, ...]:
        """What is chosen, as parts of the name of a result's file."""
        numbers = {"guidance": self.guidance, "width": self.guidance_width, "steps": self.steps, "size": self.size}
        method = self.guidance_method if self.guidance_method != "cfg" else None
        chosen = [text for text in (method, self.guidance_reading, self.guidance_site) if text is not None]
        chosen += [f"{name}{number:g}" for name, number in numbers.items() if number is not None]
        return (*chosen, *(["shared-noise"] if self.shared_noise else []))

    def guided_by(self, method: GuidanceMethod) -> SamplingChoices:
        """The same with another guidance method, and what that does not read left out."""
        return replace(self, guidance_method=method, **dict.fromkeys(self.unread_by([method])))


@dataclass(frozen=True)
class Networks:
    """Networks that look at pictures of real images' captions; None where none is named."""

    inception: Path | None = None
    """TorchScript file, for the FID."""
    clip: str | None = None
    """Local folder or hub id, for the CLIP score."""

    @property
    def name_parts(self) -> tuple[str, ...]:
        """What is named, as parts of the name of a result's file."""
        return tuple(Path(named).stem for named in (self.inception, self.clip) if named is not None)


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
