"""mmengine's configs and registries, importable by several processes at once on a new machine.

mmengine imports yapf, which keeps its grammar in the user's folder for caches and puts the file in place before all of
it is written. A process that reads it at that moment cannot import mmengine, and after a kill at that moment none can.
"""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

from platformdirs import user_cache_dir

ATTEMPTS = 5


def _import_mmengine() -> None:
    """Import it, without yapf's cache where that is cut off: the grammar is then made anew."""
    for _ in range(ATTEMPTS):
        try:
            importlib.import_module("mmengine")
        # The last where another process removes it between a look and a read.
        except (EOFError, pickle.UnpicklingError, FileNotFoundError):
            for grammar in Path(user_cache_dir("YAPF", "Google")).rglob("*.pickle"):
                grammar.unlink(missing_ok=True)
        else:
            return
    importlib.import_module("mmengine")


_import_mmengine()

from mmengine.config import Config as Config  # noqa: E402
from mmengine.registry import Registry as Registry  # noqa: E402
