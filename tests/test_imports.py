"""Commands that need no model start without the libraries of models."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import segscale

HEAVY = ("torch", "diffusers", "transformers", "mmseg", "mmengine")
COMMANDS = (
    "--help",
    "list",
    "run --help",
    "table --results {empty}",
    "leaderboard --results {empty}",
    "compare a b --results {empty}",
    "report --results {empty}",
    "status --results {empty}",
    "sweep --help",
    "scaling --results {empty}",
    "scaling --published --results {empty}",
)
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
CODE = """
import importlib, sys
module, _, function = sys.argv.pop(1).partition(":")
sys.argv[0] = "segscale"
try:
    getattr(importlib.import_module(module), function)()
finally:
    print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_model_loads_no_library_of_models(command: str, tmp_path: Path) -> None:
    entry = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]["segscale"]
    arguments = command.format(empty=tmp_path).split()
    process = subprocess.run([sys.executable, "-c", CODE, entry, *arguments], capture_output=True, text=True)
    printed, _, loaded = process.stdout.rpartition("loaded: ")
    assert printed or process.stderr
    assert "Traceback" not in process.stderr
    assert "segscale" in loaded.split()
    assert set(HEAVY).isdisjoint(loaded.split())


def test_python_beside_a_clone_finds_the_package(tmp_path: Path) -> None:
    (tmp_path / "segscale").symlink_to(PYPROJECT.parent)
    code = "import segscale, segscale.catalogue, segscale.bench.runs; print(segscale.__file__, segscale.__version__)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.stdout.split() == [str(tmp_path / "segscale/__init__.py"), segscale.__version__], process.stderr
