"""Reads one config file: mmengine's Python config, whose ``_base_`` may name a shipped config from anywhere."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from segscale.arguments import check_type
from segscale.catalogue import documentation, parse, shipped_configs
from segscale.engine import Config as MMEngineConfig
from segscale.errors import ConfigError, exception_line

DOCUMENTATION = f"see {documentation('extending.md')} for what a config holds"
SHIPPED = "segscale::"
_mmengine_base_path = MMEngineConfig._get_cfg_path


def _base_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """Path and scope of a base. For ``package::path`` mmengine wants a folder ``.mim`` that this package lacks."""
    if cfg_path.startswith(SHIPPED):
        base, scope = str(shipped_configs() / cfg_path.removeprefix(SHIPPED)), None
    else:
        base, scope = _mmengine_base_path(cfg_path, filename)
    if not Path(base).is_file():
        hint = f'a base is a path relative to its config, or like "{SHIPPED}backbones/sdxl.py"'
        raise ConfigError(f"{filename}: there is no base {base}", hint)
    return base, scope


# mmengine finds bases here and nowhere else, also those of bases.
MMEngineConfig._get_cfg_path = _base_path


@dataclass(frozen=True)
class Config:
    """A config as its file states it, bases included."""

    path: Path
    type: str
    """Name under which the class is registered."""
    modules: tuple[str, ...]
    """Modules to import first; one of them registers the class."""
    arguments: dict[str, object]
    """Everything else, lists as tuples. Names that start with an underscore only help to write others."""

    def import_modules(self) -> None:
        """Import the modules. Raises ConfigError for one that is missing or raises."""
        for module in self.modules:
            _import(module, self.path)


def read_config(path: Path) -> Config:
    """Raises ConfigError for a file that cannot be used, in one line that names it."""
    parse(path)
    try:
        values = MMEngineConfig.fromfile(path, import_custom_modules=False).to_dict()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be used: {exception_line(error)}", "correct it") from error
    if not isinstance(type_name := values.pop("type", None), str):
        raise ConfigError(f"{path} sets no type", DOCUMENTATION)
    modules = _module_names(path, values.pop("custom_imports", {}))
    arguments = {key: _with_tuples(value) for key, value in values.items() if not key.startswith("_")}
    return Config(path, type_name, modules, arguments)


def _module_names(path: Path, custom_imports: dict[str, object]) -> tuple[str, ...]:
    check_type(str(path), "custom_imports", dict[str, object], custom_imports)
    imports = _with_tuples(custom_imports.get("imports", ()))
    check_type(str(path), "imports", str | tuple[str, ...], imports)
    return (imports,) if isinstance(imports, str) else cast(tuple[str, ...], imports)


def _with_tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def _import(module: str, path: Path) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        problem = f"there is no module {module}" if missing else f"{module} raised {exception_line(error)}"
        hint = "put its module on PYTHONPATH" if missing else "correct the module"
        raise ConfigError(f"{path} cannot be used: {problem}", hint) from error
