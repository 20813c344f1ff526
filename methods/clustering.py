"""Unsupervised masks: token maps that look alike are merged (Seg4Diff, arXiv 2509.18096)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6


def contrast_over_tokens(text_map: Tensor) -> Tensor:
    """Stretch each pixel's row of ``(pixels, tokens)`` to [0, 1] over its tokens."""
    low = text_map.amin(1, keepdim=True)
    raised = text_map - low
    return raised / (raised.amax(1, keepdim=True) + EPSILON)


def spatial_distributions(text_map: Tensor) -> Tensor:
    """Take the softmax of each token's map over space: ``(pixels, tokens)`` to ``(tokens, pixels)``."""
    return text_map.T.softmax(1)


def symmetric_divergence(distributions: Tensor) -> Tensor:
    """Average both Kullback-Leibler divergences between all rows.

    Args:
        distributions: Positive ``(tokens, pixels)``, whose rows sum to 1.

    Returns:
        float64 ``(tokens, tokens)`` in nats, on the CPU.
    """
    # Close rows cancel in float32, and not every device has float64.
    rows = distributions.cpu().double()
    cross = rows @ rows.log().T
    negative_entropy = cross.diagonal()
    return (negative_entropy[:, None] + negative_entropy[None] - cross - cross.T) / 2


def merge_greedily(distributions: Tensor, divergence: Tensor, threshold: float) -> Tensor:
    """Merge rows whose divergence is below ``threshold``, which is above 0, into ``(clusters, pixels)``.

    Each cluster is the mean of the rows within ``threshold`` of its anchor. Anchors are the tokens, in order, that no
    earlier cluster holds. A later cluster may hold rows of an earlier one again.
    """
    close = (divergence < threshold).to(distributions.device)
    free = torch.ones(len(distributions), dtype=torch.bool, device=distributions.device)
    clusters: list[Tensor] = []
    for token in range(len(distributions)):
        if free[token]:
            clusters.append(distributions[close[token]].mean(0))
            free &= ~close[token]
    return torch.stack(clusters)
