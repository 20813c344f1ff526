"""Registries of backbones, methods, datasets and protocols, filled when a name's config is used."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from segscale.catalogue import Kind, config_file
from segscale.errors import UserError

BACKBONES = Registry("backbone", scope="segscale")
METHODS = Registry("method", scope="segscale")
DATASETS = Registry("dataset", scope="segscale")
PROTOCOLS = Registry("protocol", scope="segscale")
REGISTRIES: dict[Kind, Registry] = {
    "backbone": BACKBONES,
    "method": METHODS,
    "dataset": DATASETS,
    "protocol": PROTOCOLS,
}


def load_config(kind: Kind, name: str, imports: bool = False) -> dict[str, Any]:
    """The config of ``name`` as a plain dictionary; ``imports`` also imports the module of its type.

    Names that start with an underscore are building blocks for other names and are left out.
    """
    path = config_file(kind, name)
    try:
        config = Config.fromfile(path, import_custom_modules=imports).to_dict()
    except (ImportError, SyntaxError, OSError) as error:
        hint = "put its module on PYTHONPATH" if isinstance(error, ImportError) else "correct it"
        # mmengine's own message is a page long; what it came from is a line.
        cause = str(error.__context__ or error).partition("\n")[0]
        raise UserError(f"{path} cannot be used: {cause}", hint) from error
    if "type" not in config:
        raise UserError(f"{path} sets no type", "see docs/extending.md for what a config holds")
    return {key: value for key, value in config.items() if key != "custom_imports" and not key.startswith("_")}


def build(kind: Kind, name: str, /, **overrides: Any) -> Any:
    """Build the object called ``name``; ``overrides`` win over its config."""
    config = load_config(kind, name, imports=True) | overrides
    # The scope is named for callers inside mmengine's Runner, whose default is another.
    return REGISTRIES[kind].build({"name": name, "_scope_": REGISTRIES[kind].scope} | config)
