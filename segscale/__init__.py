"""Segscale: training-free segmentation with diffusion models, measured alike everywhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from segscale.errors import UserError

if TYPE_CHECKING:
    # As the installed package lies; in a clone, rooms lie beside this folder.
    from .bench.segmenter import load as load  # pyright: ignore[reportMissingImports]
    from .bench.trace import trace as trace  # pyright: ignore[reportMissingImports]

__all__ = ["UserError", "__version__", "load", "trace"]
__version__ = "0.2.0"
DOORS = {"load": "segscale.bench.segmenter", "trace": "segscale.bench.trace"}
"""Functions whose libraries are loaded when they are asked for."""


def __getattr__(name: str) -> object:
    if name in DOORS:
        return getattr(importlib.import_module(DOORS[name]), name)
    raise AttributeError(f"module 'segscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
