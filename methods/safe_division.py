"""Division that never gives NaN, for methods that are meant not to."""

from __future__ import annotations

import torch
from torch import Tensor


def shares(parts: Tensor, axis: int = 0) -> Tensor:
    """Divide parts by their sum over an axis; equal shares where the sum is zero or not finite."""
    total = parts.sum(axis, keepdim=True)
    defined = total.isfinite() & (total != 0)
    divided = parts / torch.where(defined, total, torch.ones_like(total))
    return torch.where(defined, divided, torch.full_like(parts, 1 / parts.shape[axis]))


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; the result is zero where the denominator is zero."""
    zero = denominator == 0
    return torch.where(zero, torch.zeros_like(numerator), numerator / torch.where(zero, 1, denominator))
