"""The interface of a method: from attention maps to class scores, a pure function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from segscale.prompt import Location

from ..backbones.attention.maps import AttentionMaps, CaptureSettings, MapRequest
from ..backbones.attention.sites import Site


@dataclass(frozen=True)
class ClassScores:
    """Scores of one image before any threshold.

    classes: float32 ``(n, height, width)``, one map per class of the prompt, in its order.
    background: float32 ``(height, width)``, the map that competes with the classes.
    evidence: float32 ``(n,)``, how strongly each class is there at all, on a scale that prompts of one image share;
    by default all the same.
    """

    classes: Tensor
    background: Tensor
    evidence: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if len(self.evidence) != len(self.classes):
            object.__setattr__(self, "evidence", self.classes.new_ones(len(self.classes)))


@dataclass(frozen=True)
class PromptRule:
    """How a method reads what a protocol prompts.

    text: ``published``, a caption by GoCA's published rule; ``described``, by its paper; ``names``, class names joined
    by blanks whatever the protocol says (Seg4Diff's published code); ``empty``. location: how words become token
    columns, see ``Prompt``.
    """

    text: Literal["published", "described", "names", "empty"] = "described"
    location: Location = "span"


class Method(ABC):
    """A training-free method. Construction fixes every parameter; nothing is learnt or remembered."""

    name: str
    clusters: ClassVar[bool] = False
    """Whether scores are maps of nameless clusters instead of the prompt's classes."""
    stretched: bool = True
    """Whether scores are stretched to [0, 1], rather than raw attention."""
    quirks: ClassVar[Mapping[str, str]] = {}
    """What the published code does and the paper does not say, by the argument that switches it."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Every resolved parameter, as part of a run's identity."""
        return {
            key: asdict(value) if isinstance(value, CaptureSettings) else value for key, value in vars(self).items()
        }

    @property
    @abstractmethod
    def settings(self) -> CaptureSettings:
        """How the image must be noised; methods with equal settings and prompt share one forward."""

    @property
    def prompt(self) -> PromptRule:
        """How prompts are read; methods whose prompts have the same text share one forward."""
        return PromptRule()

    @abstractmethod
    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Which maps are needed, given all sites of the backbone."""

    @abstractmethod
    def __call__(self, maps: AttentionMaps) -> ClassScores:
        """Scores of the prompt's classes."""
