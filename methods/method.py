"""The interface of a method: from attention maps, or a prediction, to class scores, a pure function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segscale.errors import UserError
from segscale.prompt import Location

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.requests import MapRequest
from ..backbones.attention.sites import Site
from ..backbones.latents.settings import CaptureSettings

SMALLEST_PEAK, LARGEST_PEAK = 0.5, 1.5
"""Between these the strongest map of scores that span [0, 1] must peak; a published stretch falls a little short."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one image before any threshold."""

    classes: Tensor
    """float32 ``(n, height, width)``, one map per class of the prompt, in its order."""
    background: Tensor
    """float32 ``(height, width)``, the map that competes with the classes."""
    evidence: Tensor = field(default_factory=lambda: torch.empty(0))
    """float32 ``(n,)``, how strongly each class is there at all, on a scale that prompts of one image share; by default
    all the same."""

    def __post_init__(self) -> None:
        """Make all classes alike where no evidence is given."""
        if len(self.evidence) != len(self.classes):
            object.__setattr__(self, "evidence", self.classes.new_ones(len(self.classes)))

    def cpu(self) -> ClassScores:
        """The same scores in the memory of the host."""
        return ClassScores(self.classes.cpu(), self.background.cpu(), self.evidence.cpu())


@dataclass(frozen=True)
class PromptRule:
    """How a method makes its prompt of what a protocol prompts."""

    text: Literal["published", "described", "names", "each", "empty"] = "described"
    """``published`` reads a caption by GoCA's published rule, ``described`` by its paper's; ``names`` joins class names
    by blanks whatever the protocol says (Seg4Diff's published code); ``each`` makes a prompt of every class, "a star";
    ``empty`` prompts nothing."""
    location: Location = "span"
    """How words become token columns, see ``Prompt``."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to read a network. Its fields are its parameters, and all that identifies it; nothing is learnt here.

    A field without default that ``MethodDefaults`` has too is filled by the backbone, see ``build_method``.
    """

    name: str
    """The name of its config."""
    variant: str = ""
    """How this differs from the config of that name, empty for the config itself; shown behind the name."""

    unnamed_masks: ClassVar[bool] = False
    """Whether scores are maps of nameless masks instead of the prompt's classes."""
    quirks: ClassVar[Mapping[str, str]] = {}
    """What the published code does and the paper does not say, by the field that switches it."""

    @property
    @abstractmethod
    def settings(self) -> CaptureSettings:
        """How the image must be noised. Methods with equal settings and prompt share one forward."""

    @property
    @abstractmethod
    def normalised(self) -> bool:
        """Whether every class's scores span [0, 1]. Raw attention does not; its threshold is 0."""

    @property
    def prompt_rule(self) -> PromptRule:
        """How prompts are made. Methods whose prompts have the same text share one forward."""
        return PromptRule()

    @abstractmethod
    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Return what is needed of a forward, given all sites of the backbone."""

    @abstractmethod
    def __call__(self, maps: AttentionMaps) -> ClassScores:
        """Score the prompt's classes."""

    def shown(self, maps: Tensor) -> Tensor:
        """Scores of classes as heat maps in [0, 1]; raw attention is shown relative to its largest value."""
        if self.normalised or not len(maps):
            return maps
        return maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)

    def check(self, scores: ClassScores, classes: int) -> None:
        """Raise UserError for scores that are none of ``classes`` words, or not scaled as ``normalised`` says."""
        if not isinstance(scores, ClassScores):
            raise UserError(f"gave a {type(scores).__name__} instead of ClassScores")
        shape, background = tuple(scores.classes.shape), tuple(scores.background.shape)
        if len(shape) != 3:
            raise UserError(f"gave maps of shape {shape}, not (classes, height, width)")
        if background != shape[1:]:
            raise UserError(f"gave background of shape {background} beside classes of {shape[1:]}")
        if self.unnamed_masks:
            return
        if len(scores.classes) != classes:
            raise UserError(f"gave {len(scores.classes)} maps for {classes} classes")
        if not self.normalised or not classes:
            return
        peaks = scores.classes.amax((1, 2))
        # One number leaves the device, not one per class.
        highest = float(peaks.where(peaks.isfinite(), -torch.inf).max())
        if not (SMALLEST_PEAK <= highest <= LARGEST_PEAK or highest in (0, -torch.inf)):
            stretch = "set normalised = False, or stretch them with segscale.methods.rescaling.min_max"
            raise UserError(f"says that its scores span [0, 1], but they reach {highest:.2g}", stretch)
