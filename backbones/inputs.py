"""What a denoiser is given: a row alone, and a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segscale.prompt import Prompt

from .latents.noise import NoiseLevel
from .text.conditioning import Conditioning


@dataclass(frozen=True)
class PromptedImage:
    """One row of a batch: what the denoiser is given of an image."""

    noised: Tensor
    """Latent ``(1, channels, height, width)``, or ``(1, channels, 2, height, width)`` of a clean picture and a mask."""
    level: NoiseLevel
    """Its noise level."""
    prompt: Prompt
    """What the text encoders get. Words that lose tokens because it is longer than they take are logged."""

    @property
    def drawn(self) -> Tensor:
        """The part of the latent that is noised, ``(1, channels, height, width)``."""
        return self.noised if self.noised.ndim == 4 else self.noised[:, :, -1]


@dataclass(frozen=True)
class DenoiserInput:
    """A batch for the denoiser."""

    latents: Tensor
    """``(n, channels, height, width)``."""
    timesteps: Tensor
    """``(n,)``, as the scheduler counts."""
    conditioning: Conditioning
    """A row for each."""
