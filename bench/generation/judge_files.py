"""The shipped file of the judge; its reference is read here without torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from .frechet import Gaussian

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
MEAN, COVARIANCE = "reference.mean", "reference.covariance"


def load_reference() -> Gaussian:
    """Load the fit of the pooled latents of 5,000 real scenes."""
    with safe_open(WEIGHTS, framework="numpy") as file:
        return Gaussian(file.get_tensor(MEAN), file.get_tensor(COVARIANCE))
