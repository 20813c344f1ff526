"""Names of backbones, methods, datasets and protocols, read from config files without running them.

A name is the stem of ``configs/<kind>s/<name>.py``, an mmengine config whose docstring is the one-line
description. Further config folders are named by ``SEGSCALE_CONFIGS`` (separated like ``PATH``), each laid
out like ``configs/``; the module that a config imports may live anywhere on ``sys.path``.
"""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from segscale.errors import UserError

Kind = Literal["backbone", "method", "dataset", "protocol"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def config_folders() -> Iterator[Path]:
    """Folders that hold ``backbones/``, ``methods/``, ``datasets/`` and ``protocols/``."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    yield installed if installed.is_dir() else package.parent / "configs"
    for folder in filter(None, os.environ.get("SEGSCALE_CONFIGS", "").split(os.pathsep)):
        yield Path(folder)


def config_files(kind: Kind) -> dict[str, Path]:
    """Config file of every name, sorted by name; the same name twice is an error."""
    files: dict[str, Path] = {}
    for folder in config_folders():
        for path in (folder / f"{kind}s").glob("*.py"):
            if path.stem in files:
                raise UserError(f"{kind} {path.stem} is configured twice: {files[path.stem]} and {path}", "rename one")
            files[path.stem] = path
    return dict(sorted(files.items()))


def config_file(kind: Kind, name: str) -> Path:
    """The config file of ``name``. Raises UserError for an unknown name, with the nearest known one."""
    files = config_files(kind)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown {kind} {name!r}", f"{hint}there are: {', '.join(files)}")
    return files[name]


def describe(kind: Kind) -> dict[str, str]:
    """First docstring line of every config."""
    return {name: _first_line(path) for name, path in config_files(kind).items()}


def _first_line(path: Path) -> str:
    try:
        return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    except SyntaxError as error:
        raise UserError(f"{path} is not Python (line {error.lineno})", "correct it") from error
