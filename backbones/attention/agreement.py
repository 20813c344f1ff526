"""Agreement of attention with a reference affinity, from log-sum-exps alone.

With R = softmax(f f^T) of a reference feature f, and a head's P_ij = exp(s q_i k_j - l_i),

    sum_ij R_ij P_ij = sum_i exp(L_i - r_i - l_i),   L_i = log sum_j exp(s q_i k_j + f_i f_j),

where r_i = log sum_j exp(f_i f_j), and L is the log-sum-exp of attention with queries [q, f / s] and keys [k, f].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import SMALLEST_MASS, AttentionCall
from .kernels import ALIGNED, attend_with_log_sums

# Queries whose logits are held at a time where no kernel gives their log-sum-exp.
ROWS = 512


@dataclass(frozen=True)
class PixelAttention:
    """What the pixel-to-pixel maps of all heads of one image follow from."""

    query: Tensor
    """``(heads, pixels, width)``, like the key."""
    key: Tensor
    log_sums: Tensor
    """float32 ``(heads, pixels)``, over all keys of the module."""
    factor: float
    """What the products of queries and keys are multiplied by."""
    joint: bool
    """Whether ``log_sums`` are over more keys than these."""


class Agreement:
    """Computes sum(R * map) for maps of the reference's own grid."""

    def __init__(self, feature: Tensor, renormalised: bool) -> None:
        """Take the reference feature, float32 ``(pixels, channels)``; R is the softmax of its inner products.

        Args:
            feature: Its channels are added to the width of a head, so they should be few.
            renormalised: Whether a map's rows are divided by their sum.
        """
        self.feature, self.renormalised = feature, renormalised
        self.reference = log_sums(feature[None], feature[None], 1)[0]

    def __call__(self, attention: PixelAttention) -> Tensor:
        """Return the agreement, averaged over heads: a float32 scalar."""
        query, key = self._extended(attention)
        together = log_sums(query, key, attention.factor)
        rows = (together - self.reference - attention.log_sums).exp().mean(0)
        if self.renormalised and attention.joint:
            pixels = log_sums(attention.query, attention.key, attention.factor)
            rows = rows / (pixels - attention.log_sums).exp().mean(0).clamp(min=SMALLEST_MASS)
        return rows.sum()

    def _extended(self, attention: PixelAttention) -> tuple[Tensor, Tensor]:
        """Queries and keys with the feature beside them, at a width that kernels take."""
        dtype, heads = attention.query.dtype, len(attention.query)
        # What half precision cuts off goes into channels of its own: (a + b)(c + d) without b d.
        leading, rest = _halves(self.feature / attention.factor, dtype)
        feature, missing = _halves(self.feature, dtype)
        beside = ((attention.query, (leading, rest, leading)), (attention.key, (feature, feature, missing)))
        query, key = (
            torch.cat([attended, *(part.expand(heads, -1, -1) for part in parts)], dim=-1) for attended, parts in beside
        )
        padding = (0, -query.shape[-1] % ALIGNED)
        return F.pad(query, padding), F.pad(key, padding)


def _halves(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values as ``dtype`` has them, and what is missing then; their sum is nearly exact."""
    leading = values.to(dtype)
    return leading, (values - leading).to(dtype)


def log_sums(query: Tensor, key: Tensor, factor: float) -> Tensor:
    """Return log sum_j exp(factor q_i k_j), float32 ``(heads, queries)``.

    A fused kernel computes it, or some queries at a time where there is none.
    """
    attended = attend_with_log_sums(AttentionCall(query[None], key[None], key[None], scale=factor))
    if attended is not None:
        return attended.log_sums[0]
    keys = key.float().transpose(1, 2) * factor
    return torch.cat([(rows.float() @ keys).logsumexp(-1) for rows in query.split(ROWS, dim=1)], dim=1)
