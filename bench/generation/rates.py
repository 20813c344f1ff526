"""How strongly guidance acts where (S-CFG, arXiv 2404.05384, with the constants of GoCA, arXiv 2603.06178)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-8
LOWEST_RATE, HIGHEST_RATE = 0.8, 3.0
HIGHEST_STRENGTH = 15.0
"""Of guidance scale and rate together."""
SMOOTHING_SIGMA = 0.5


@dataclass(frozen=True)
class Segments:
    """What of a picture in the making is what."""

    region: Tensor
    """int64 ``(height, width)`` of the latent: the token that a pixel belongs to."""
    foreground: Tensor
    """bool, alike."""

    def to(self, device: torch.device) -> Segments:
        """The same there: maps lie where their block does, predictions where latents do."""
        return Segments(self.region.to(device), self.foreground.to(device))


def guidance_rates(difference: Tensor, segments: Segments, scale: float) -> Tensor:
    """Bring the strength of guidance in every region to that of the foreground.

    With n the norm of the difference over channels, B its mean over the foreground and A_c over the region of token c,
    the rate of a region is B / A_c, clamped, and smoothed at borders.

    Args:
        difference: Conditional less unconditional prediction, ``(channels, height, width)``.
        segments: Of the picture.
        scale: Of guidance.

    Returns:
        float32 ``(height, width)``.
    """
    norm = difference.float().norm(dim=0)
    foreground = segments.foreground.to(norm.dtype)
    goal = (norm * foreground).sum() / (foreground.sum() + SMALLEST)
    rates = torch.ones_like(norm)
    for token in segments.region.unique():
        mask = segments.region == token
        mean = norm[mask].sum() / (mask.sum() + SMALLEST)
        rates[mask] = goal / (mean + SMALLEST)
    return smoothed(rates.clamp(LOWEST_RATE, HIGHEST_RATE).clamp(max=HIGHEST_STRENGTH / scale))


def smoothed(maps: Tensor) -> Tensor:
    """A 3 x 3 Gaussian of sigma 0.5 that reflects at the border, of maps ``(..., height, width)``.

    Maps of ones stay as they are, to the last bit.
    """
    offsets = torch.tensor([-1.0, 0.0, 1.0], device=maps.device)
    kernel = torch.exp(-(offsets**2) / (2 * SMOOTHING_SIGMA**2))
    window = torch.outer(kernel, kernel)[None, None]
    padded = F.pad(maps.reshape(-1, 1, *maps.shape[-2:]), (1, 1, 1, 1), mode="reflect")
    # The sum of the window as the convolution itself makes it.
    return (F.conv2d(padded, window) / F.conv2d(torch.ones_like(padded[:1]), window)).view(maps.shape)
