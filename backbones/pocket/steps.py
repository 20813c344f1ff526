"""What the trainings of all pocket denoisers share: the optimiser, its rate and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

WARM_UP = 100
"""Steps until the rate is highest."""
EMA_DECAY = 0.998


def new_optimiser(denoiser: nn.Module, rate: float) -> torch.optim.AdamW:
    """Return the optimiser of a denoiser's weights."""
    return torch.optim.AdamW(denoiser.parameters(), lr=rate, weight_decay=1e-2, betas=(0.9, 0.99))


def warm_up_share(step: int) -> float:
    """The share of the highest rate while it rises."""
    return min(1.0, step / WARM_UP)


def cosine_share(step: int, steps: int) -> float:
    """The share of the highest rate, which falls to a tenth."""
    return 0.1 + 0.9 * math.cos(step / steps * math.pi / 2) ** 2


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def follow(average: nn.Module, current: nn.Module, step: int) -> None:
    """Move averaged weights towards those after ``step`` steps, faster in the first ones."""
    keep = min(EMA_DECAY, step / (step + 10))
    for slow, fast in zip(average.parameters(), current.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)
