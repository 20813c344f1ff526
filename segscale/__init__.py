"""Segscale: training-free segmentation with diffusion models, measured alike everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..bench.segmenter import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from segscale.bench.segmenter import load

        return load
    raise AttributeError(f"module 'segscale' has no attribute {name!r}")
