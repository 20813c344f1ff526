"""Which map of attention stands for which mask without a name: the assignment of least cost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .objectives import DICE_SMOOTHING, FOCAL_ALPHA, FOCAL_GAMMA

FOCAL_COST, DICE_COST = 0.02, 1.0


@torch.no_grad()
def matched(logits: Tensor, masks: Tensor, raw: bool) -> list[int]:
    """Find the map of every mask, each map taken once.

    Args:
        logits: ``(maps, pixels)``.
        masks: 0 or 1, ``(masks, pixels)``, not more than maps.
        raw: As of ``focal_loss``.

    Returns:
        The map of each mask; the sum of 0.02 focal + 1.0 dice is the least possible.
    """
    cost = FOCAL_COST * _focal(logits, masks, raw) + DICE_COST * _dice(logits, masks)
    rows, columns = linear_sum_assignment(cost.T.nan_to_num(nan=torch.finfo(cost.dtype).max).cpu().numpy())
    order = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return [order[mask] for mask in range(len(masks))]


def _focal(logits: Tensor, masks: Tensor, raw: bool) -> Tensor:
    """``focal_loss`` of every map with every mask, ``(maps, masks)``."""
    probability = logits if raw else logits.sigmoid()
    inside = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * F.softplus(-logits)
    outside = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * F.softplus(logits)
    return (inside @ masks.T + outside @ (1 - masks).T) / logits.shape[1]


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    """``dice_loss`` of every map with every mask, ``(maps, masks)``."""
    probability = logits.sigmoid()
    total = probability.sum(1)[:, None] + masks.sum(1)
    return 1 - (2 * probability @ masks.T + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
