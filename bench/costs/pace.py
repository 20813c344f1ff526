"""How images come to the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How many images share a forward, and what a stand-in for the model takes."""

    seconds: float = 0.04
    """That the stand-in sleeps for an image."""
    images: int = 150
    """Of every run of it."""
    batch: int = 1
