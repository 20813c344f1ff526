"""The seam of guidance: a rule makes one prediction of those with and without the prompt, at every step.

To add a rule, write a subclass of ``Guidance``, name it in ``GuidanceMethod`` and in ``rules.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...backbones.attention.maps import AttentionMaps
from ...backbones.attention.requests import MapRequest
from ...backbones.backbone import Backbone


@dataclass(frozen=True)
class GuidedStep:
    """One step of the sampling of a batch, as a rule sees it. Tensors are float32."""

    unconditional: Tensor
    """Prediction without prompt, ``(n, channels, height, width)``; the scheduler knows what it is: noise, velocity."""
    conditional: Tensor
    """Prediction with the prompt."""
    unconditional_maps: tuple[AttentionMaps, ...]
    """Of every row in the very forward; empty where the rule asks for no maps."""
    conditional_maps: tuple[AttentionMaps, ...]
    text_length: int
    """Text columns of the prompts."""
    predict_again: Callable[[], Tensor]
    """Runs the denoiser on the conditional rows once more, for rules that change it meanwhile."""


class Guidance(ABC):
    """A guidance rule. It keeps nothing between steps, so that no picture depends on its batch."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    @property
    def needs_unconditional(self) -> bool:
        """Whether the denoiser also gets rows without a prompt; otherwise both predictions are the conditional one."""
        return self.scale > 1

    def request(self, backbone: Backbone, image_size: int) -> MapRequest | None:
        """Return the attention maps that the rule reads of both rows at every step, None for none."""
        del backbone, image_size

    @abstractmethod
    def __call__(self, step: GuidedStep) -> Tensor:
        """Return the prediction that the scheduler gets, of the shape of ``step.conditional``."""


class ClassifierFree(Guidance):
    """Classifier-free guidance: ``eps_u + w (eps_c - eps_u)``. Source: Ho and Salimans, arXiv 2207.12598."""

    def __call__(self, step: GuidedStep) -> Tensor:
        if not self.needs_unconditional:
            return step.conditional
        return step.unconditional + self.scale * (step.conditional - step.unconditional)
