"""Modules import each other as drawn, and the check of the drawing sees what it must."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("layers", Path(__file__).with_name("layers.py"))
assert _spec is not None
assert _spec.loader is not None
layers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layers)

PACKAGES = """
[tool.setuptools]
packages = ["segscale", "segscale.bench", "segscale.bench.report", "segscale.bench.runs", "segscale.bench.commands",
    "segscale.backbones", "segscale.backbones.pocket", "segscale.methods", "segscale.datasets"]
"""
FORBIDDEN = {
    "circle": (
        {"methods/a.py": "from .b import x", "methods/b.py": "def f():\n    from . import a"},
        ["circle: methods.a -> methods.b -> methods.a"],
    ),
    "layer": (
        {"bench/runs/a.py": "from ..report import b", "bench/report/b.py": ""},
        ["arrow back up: bench.runs.a -> bench.report.b"],
    ),
    "command": (
        {"bench/door.py": "from .commands.a import x", "bench/commands/a.py": ""},
        ["arrow back up: bench.door -> bench.commands.a"],
    ),
    "method": (
        {"methods/a.py": "from ..backbones.flux import Flux", "backbones/flux.py": ""},
        ["arrow back up: methods.a -> backbones.flux"],
    ),
    "absolute": (
        {"datasets/a.py": "import segscale.methods.b", "methods/b.py": ""},
        ["arrow back up: datasets.a -> methods.b"],
    ),
    "package": (
        {"segscale/a.py": "from segscale import bench", "bench/__init__.py": ""},
        ["arrow back up: segscale.a -> bench"],
    ),
    "report": (
        {"bench/report/a.py": "from segscale.b import x", "segscale/b.py": "import torch.nn"},
        ["a report needs no model: bench.report.a -> segscale.b -> torch"],
    ),
    "trainer": (
        {
            "backbones/a.py": "from .pocket import b",
            "backbones/pocket/b.py": "from ...datasets.c import x",
            "datasets/c.py": "",
        },
        ["a backbone needs no dataset: backbones.a -> backbones.pocket.b -> datasets.c"],
    ),
    "unlisted": ({"bench/new/a.py": ""}, ["pyproject.toml lists no package segscale.bench.new"]),
    "doors": (
        {f"bench/door{index}.py": "" for index in range(9)},
        [f"bench/ has 9 front doors, 8 at most: {', '.join(f'bench.door{index}' for index in range(9))}"],
    ),
}
ALLOWED = {
    "bench/__init__.py": "",
    "bench/door.py": "from .runs.a import x\nfrom ..methods.b import y",
    "bench/commands/c.py": "from .. import door\nfrom ..report.d import z",
    "bench/report/d.py": "from ..runs import a\nimport numpy\nimport segscale.e",
    "bench/runs/a.py": "from segscale.e import x",
    "methods/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..backbones.f import F",
    "backbones/f.py": "import torch\nfrom segscale.e import x",
    "segscale/e.py": "",
}


def tree(folder: Path, files: dict[str, str]) -> Path:
    (folder / "pyproject.toml").write_text(PACKAGES)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_modules_import_each_other_as_drawn() -> None:
    assert layers.problems() == []


@pytest.mark.parametrize("arrow", FORBIDDEN)
def test_a_forbidden_arrow_is_named(arrow: str, tmp_path: Path) -> None:
    files, expected = FORBIDDEN[arrow]
    assert layers.problems(tree(tmp_path, files)) == expected


def test_allowed_arrows_are_no_problem(tmp_path: Path) -> None:
    root = tree(tmp_path, ALLOWED)
    assert layers.problems(root) == []
    assert layers.drawing(root)["bench.report.d"] == {"bench.runs.a", "numpy", "segscale.e"}
