"""The two ways to observe attention, both exact in float32, and which one pays on which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Way = Literal["fused", "chunked"]
"""``fused`` follows from queries, keys and the log-sum-exp of a fused kernel; ``chunked`` looks at all probabilities,
some queries at a time."""


@dataclass(frozen=True)
class Ways:
    """How a site is observed where no method needs its pixel-to-pixel map."""

    text: Way
    """Text maps and head weights of joint attention. Where text alone is attended to, chunks are cheaper."""
    layers: Way
    """Agreement with a reference, where a measure allows it."""
    chunk_bytes: int | None = None
    """Memory of the probabilities of one chunk; None: what suits the device."""


BY_DEVICE = {
    # A second fused pass takes longer than chunks that stay in the cache (docs/performance.md).
    "cpu": Ways("fused", "chunked"),
    "cuda": Ways("fused", "fused"),
    "meta": Ways("fused", "fused"),
}
ELSEWHERE = Ways("chunked", "chunked")


def ways_on(device: torch.device) -> Ways:
    """Return what pays on a device."""
    return BY_DEVICE.get(device.type, ELSEWHERE)
