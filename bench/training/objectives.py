"""Losses of mask alignment (Seg4Diff, arXiv 2509.18096): focal and dice, on logits of masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
DICE_SMOOTHING = 1.0


def focal_loss(logits: Tensor, masks: Tensor, raw: bool = False) -> Tensor:
    """Focal loss (arXiv 1708.02002), averaged over pixels.

    Args:
        logits: ``(masks, height, width)``.
        masks: 0 or 1, alike.
        raw: Whether the probability of a pixel is taken to be its logit itself, as in the published code, instead of
            the logit's sigmoid.
    """
    probability = logits if raw else logits.sigmoid()
    right = probability * masks + (1 - probability) * (1 - masks)
    balance = FOCAL_ALPHA * masks + (1 - FOCAL_ALPHA) * (1 - masks)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    return (balance * (1 - right) ** FOCAL_GAMMA * entropy).mean()


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - (2 sum p m + 1) / (sum p + sum m + 1) with p the sigmoid, averaged over masks ``(masks, height, width)``."""
    probability = logits.sigmoid()
    common, total = (probability * masks).sum((1, 2)), (probability + masks).sum((1, 2))
    return torch.mean(1 - (2 * common + DICE_SMOOTHING) / (total + DICE_SMOOTHING))
