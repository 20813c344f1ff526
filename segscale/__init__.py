"""Segscale: training-free segmentation with diffusion models, measured alike everywhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..bench.segmenter import load as load

__all__ = ["__version__", "load"]
__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    if name == "load":
        return importlib.import_module("segscale.bench.segmenter").load
    raise AttributeError(f"module 'segscale' has no attribute {name!r}")
