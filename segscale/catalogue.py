"""Names of backbones, methods, datasets, protocols and sweeps, read from config files without running them.

A name is the stem of ``configs/<kind>s/<name>.py``, an mmengine config whose docstring is the one-line
description. Further config folders are named by ``SEGSCALE_CONFIGS`` (separated like ``PATH``), each laid
out like ``configs/``; the module that a config imports may live anywhere on ``sys.path``.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from segscale.errors import ConfigError, UnknownNameError, did_you_mean

Kind = Literal["backbone", "method", "dataset", "protocol", "sweep"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PACKAGED = "pocket:"
"""Begins the weights of a config where they come with the package."""
VARIABLE = "SEGSCALE_CONFIGS"


def shipped_folder(name: Literal["configs", "results"]) -> Path:
    """A folder that comes with the package, installed or in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def shipped_configs() -> Path:
    """The folder of the configs that come with the package."""
    return shipped_folder("configs")


def documentation(page: str) -> str:
    """Where a page of the documentation is: in the clone, or beside the installed package."""
    installed = Path(__file__).resolve().parent / "docs" / page
    return str(installed) if installed.is_file() else f"docs/{page}"


def config_folders() -> Iterator[Path]:
    """Folders that hold ``backbones/``, ``methods/``, ``datasets/``, ``protocols/`` and ``sweeps/``."""
    yield shipped_configs()
    for folder in map(Path, filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))):
        if not folder.is_dir():
            raise ConfigError(f"{VARIABLE} names {folder}, which is no folder", f"correct it, or: unset {VARIABLE}")
        yield folder


def config_files(kind: Kind) -> dict[str, Path]:
    """Config file of every name, sorted by name; the same name twice is an error."""
    files: dict[str, Path] = {}
    for folder in config_folders():
        for path in (folder / f"{kind}s").glob("*.py"):
            if path.stem in files:
                raise ConfigError(
                    f"{kind} {path.stem} is configured twice: {files[path.stem]} and {path}", "rename one"
                )
            files[path.stem] = path
    return dict(sorted(files.items()))


def unlisted_files(kind: Kind) -> dict[str, Path]:
    """Config file of every shipped name that is used by name alone: rungs of the pocket ladder."""
    return {path.stem: path for path in sorted((shipped_configs() / "rungs" / f"{kind}s").glob("*.py"))}


def config_file(kind: Kind, name: str) -> Path:
    """The config file of ``name``, listed or not. Raises UnknownNameError, which tells the nearest known name."""
    files = unlisted_files(kind) | config_files(kind)
    if name not in files:
        raise UnknownNameError(f"unknown {kind} {name!r}", did_you_mean(name, files))
    return files[name]


def describe(kind: Kind, unlisted: bool = False) -> dict[str, str]:
    """First docstring line of every config; ``unlisted``: also of those that are used by name alone."""
    files = config_files(kind) | (unlisted_files(kind) if unlisted else {})
    return {name: _first_line(path) for name, path in files.items()}


def packaged_backbones() -> list[str]:
    """Shipped backbones whose weights come with the package, as their configs themselves say."""
    paths = (shipped_configs() / "backbones").glob("*.py")
    return sorted(path.stem for path in paths if _assigned_text(path, "weights").startswith(PACKAGED))


def training_free_backbones() -> list[str]:
    """Those of ``packaged_backbones`` that were taught with pictures and captions alone."""
    folder = shipped_configs() / "backbones"
    return [name for name in packaged_backbones() if _assigned_text(folder / f"{name}.py", "training") in ("", "none")]


def parse(path: Path) -> ast.Module:
    """The syntax tree of a config. Raises ConfigError for a file that cannot be read or is not Python."""
    try:
        return ast.parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})", "correct or remove it") from error
    except (SyntaxError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigError(f"{path} is not Python{line}", "correct or remove it") from error


def _first_line(path: Path) -> str:
    return (ast.get_docstring(parse(path)) or "").partition("\n")[0]


def _assigned_text(path: Path, name: str) -> str:
    """The text that a config assigns to ``name``, empty where it assigns none."""
    for node in parse(path).body:
        match node:
            case ast.Assign([ast.Name(id=target)], ast.Constant(str(text))) if target == name:
                return text
    return ""
