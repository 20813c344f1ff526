"""mmengine is importable although yapf left a cut-off grammar in the user's folder for caches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _import_registry(cache: Path) -> None:
    command = [sys.executable, "-c", "import segscale.registry"]
    subprocess.run(command, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, check=True)


def _grammars(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*.pickle")}


@pytest.mark.skipif(sys.platform != "linux", reason="names the folder for caches as Linux does")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_off_grammar_is_made_anew(tmp_path: Path, share: float) -> None:
    _import_registry(tmp_path)
    whole = _grammars(tmp_path)
    assert whole
    for path, content in whole.items():
        path.write_bytes(content[: int(share * len(content))])
    _import_registry(tmp_path)
    assert _grammars(tmp_path) == whole
