"""GenMask: the mask that a trained generator draws beside the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segscale.registry import METHODS

from ..backbones.attention.maps import AttentionMaps
from ..backbones.attention.requests import MapRequest
from ..backbones.attention.sites import Site
from ..backbones.latents.settings import CaptureSettings, Timestep
from .method import ClassScores, Method, PromptRule

PURE_NOISE = 1000.0
EDGE = 0.5


@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class GenMask(Method):
    """GenMask, arXiv 2603.23906: a reference that is not training-free.

    Every class is asked by itself ("a star"). Its score is the grey of the mask that the denoiser draws in one step
    from pure noise, 0 black and 1 white. Background has one half everywhere.
    """

    image_size: int

    @property
    def normalised(self) -> bool:
        """Grey has an edge of its own, and a class that is not there need not span anything."""
        return False

    @property
    def settings(self) -> CaptureSettings:
        """The mean of the picture's posterior, beside a mask of pure noise."""
        return CaptureSettings(self.image_size, Timestep(t=PURE_NOISE), posterior="mean", drawn="mask")

    @property
    def prompt_rule(self) -> PromptRule:
        """One prompt per class."""
        return PromptRule("each")

    def shown(self, maps: Tensor) -> Tensor:
        """Grey as it is, so that a class that is not there stays dark."""
        return maps.clamp(0, 1)

    def request(self, sites: Sequence[Site]) -> MapRequest:
        """Return that the prediction alone is needed."""
        return MapRequest(picture=True)

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        """Read the mask's grey."""
        assert maps.picture is not None
        grey = (maps.picture.mean(0) + 1) / 2
        return ClassScores(grey[None], torch.full_like(grey, EDGE))
