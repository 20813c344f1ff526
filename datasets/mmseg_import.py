"""Imports mmsegmentation beside mmcv-lite, which lacks mmcv's compiled operators.

mmseg 1.2.2 imports ``mmcv.ops``, and that loads the extension ``mmcv._ext``; nothing Segscale uses calls
an operator of it. Where the extension is missing, a stand-in takes its place whose operators raise when
called. A full mmcv is left alone. Everything in Segscale that needs mmseg gets it from here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from segscale.errors import UserError

EXTENSION = "mmcv._ext"


class _MissingOperators(ModuleType):
    """Has every operator by name; calling one raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise UserError(
                f"the compiled operator {name} of mmcv is not installed",
                "install a full mmcv: https://mmcv.readthedocs.io/en/latest/get_started/installation.html",
            )

        return missing


def import_mmseg(module: str) -> ModuleType:
    """``mmseg.<module>``, with or without mmcv's compiled operators."""
    if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        missing = _MissingOperators(EXTENSION, "Stands in for mmcv's compiled operators.")
        # mmengine's Runner asks whether the extension has a loader.
        missing.__spec__ = ModuleSpec(EXTENSION, loader=None)
        sys.modules[EXTENSION] = missing
    return importlib.import_module(f"mmseg.{module}")
