"""mmengine is importable although yapf left a cut-off grammar in the user's folder for caches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="names the folder for caches as Linux does")
REMOVED_BETWEEN_LOOK_AND_READ = """
import os
look, removed = os.path.getmtime, set()
def getmtime(path):
    time = look(path)
    if str(path).endswith(".pickle") and path not in removed:
        removed.add(path)
        os.unlink(path)
    return time
os.path.getmtime = getmtime
"""


def _import_registry(cache: Path, before: str = "") -> None:
    command = [sys.executable, "-c", f"{before}\nimport segscale.registry"]
    subprocess.run(command, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, check=True)


def _grammars(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*.pickle")}


@linux
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_off_grammar_is_made_anew(tmp_path: Path, share: float) -> None:
    _import_registry(tmp_path)
    whole = _grammars(tmp_path)
    assert whole
    for path, content in whole.items():
        path.write_bytes(content[: int(share * len(content))])
    _import_registry(tmp_path)
    assert _grammars(tmp_path) == whole


@linux
def test_a_grammar_that_another_process_removes_is_made_anew(tmp_path: Path) -> None:
    _import_registry(tmp_path)
    whole = _grammars(tmp_path)
    _import_registry(tmp_path, REMOVED_BETWEEN_LOOK_AND_READ)
    assert _grammars(tmp_path) == whole
