"""Commands that need no model start without the libraries of models."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

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
import contextlib, importlib, sys
module, _, function = sys.argv[1].partition(":")
for command in sys.argv[2:]:
    sys.argv = ["segscale", *command.split()]
    with contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)()
    sys.stderr.flush()
    print("\\nloaded:", *sorted({name.partition(".")[0] for name in sys.modules}), flush=True)
"""


def test_commands_without_a_model_load_no_library_of_models(tmp_path: Path) -> None:
    """In one process, in which what is loaded stays so: the first command that loads one is named."""
    entry = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]["segscale"]
    commands = [command.format(empty=tmp_path) for command in COMMANDS]
    process = subprocess.run(
        [sys.executable, "-c", CODE, entry, *commands], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "Traceback" not in process.stdout
    lines = process.stdout.splitlines()
    ends = [place for place, line in enumerate(lines) if line.startswith("loaded: ")]
    assert len(ends) == len(commands)
    for command, start, end in zip(commands, [-1, *ends], ends, strict=False):
        loaded = lines[end].split()
        assert any(lines[start + 1 : end]), f"segscale {command} says nothing"
        assert "segscale" in loaded
        assert set(HEAVY).isdisjoint(loaded), f"segscale {command}"


def test_python_beside_a_clone_finds_the_package(tmp_path: Path) -> None:
    (tmp_path / "segscale").symlink_to(PYPROJECT.parent)
    code = "import segscale, segscale.catalogue, segscale.bench.runs; print(segscale.__file__, segscale.__version__)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.stdout.split() == [str(tmp_path / "segscale/__init__.py"), segscale.__version__], process.stderr
