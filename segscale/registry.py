"""Registries of backbones, methods, datasets, protocols and sweeps, filled when a name's config is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from segscale.arguments import arguments_of, check_arguments, check_complete, check_type
from segscale.catalogue import Kind, config_file, config_files
from segscale.config import DOCUMENTATION, Config, read_config
from segscale.engine import Registry
from segscale.errors import ConfigError, UserError, did_you_mean, exception_line

if TYPE_CHECKING:
    from ..backbones.backbone import Backbone
    from ..bench.sweeps.sweep import Sweep
    from ..bench.tasks.protocol import Protocol
    from ..datasets.dataset import Dataset
    from ..methods.method import Method

BACKBONES = Registry("backbone", scope="segscale")
METHODS = Registry("method", scope="segscale")
DATASETS = Registry("dataset", scope="segscale")
PROTOCOLS = Registry("protocol", scope="segscale")
SWEEPS = Registry("sweep", scope="segscale")
REGISTRIES: dict[Kind, Registry] = {
    "backbone": BACKBONES,
    "method": METHODS,
    "dataset": DATASETS,
    "protocol": PROTOCOLS,
    "sweep": SWEEPS,
}
# Only the program passes these: a run's record states them apart from the config.
NOT_FOR_CONFIGS = ("name", "load", "untrained")
# What a backbone's config holds for methods; its constructor does not get it.
FOR_METHODS = ("method_defaults", "presets")
# And for drawing pictures.
FOR_SAMPLING = "sampling"
Table = dict[str, object]


def load_config(kind: Kind, name: str, imports: bool = False) -> dict[str, Any]:
    """The config of ``name`` as a plain dictionary; ``imports`` also imports its class and checks it against that."""
    config = read_config(config_file(kind, name))
    if imports:
        _checked_class(kind, config)
    return {"type": config.type, **config.arguments}


@overload
def build(kind: Literal["backbone"], name: str, /, **overrides: object) -> Backbone: ...
@overload
def build(kind: Literal["method"], name: str, /, **overrides: object) -> Method: ...
@overload
def build(kind: Literal["dataset"], name: str, /, **overrides: object) -> Dataset: ...
@overload
def build(kind: Literal["protocol"], name: str, /, **overrides: object) -> Protocol: ...
@overload
def build(kind: Literal["sweep"], name: str, /, **overrides: object) -> Sweep: ...
def build(kind: Kind, name: str, /, **overrides: object) -> object:
    """Build the object called ``name``; ``overrides`` win over its config.

    Raises:
        ConfigError: the config or an override does not fit the class, or the class raised.
    """
    config = read_config(config_file(kind, name))
    constructor = _checked_class(kind, config)
    check_arguments(f"{kind} {name}", constructor, overrides)
    arguments = {"name": name} | _constructor_arguments(kind, config) | overrides
    check_complete(str(config.path), constructor, arguments)
    try:
        return constructor(**arguments)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{config.path} cannot be used: {exception_line(error)}", DOCUMENTATION) from error


def backbone_class(name: str) -> type[Backbone]:
    """The class of a backbone, whose module is imported first."""
    return cast("type[Backbone]", _class_of("backbone", read_config(config_file("backbone", name))))


def _class_of(kind: Kind, config: Config) -> type:
    """The class that a config names, whose module is imported first."""
    config.import_modules()
    classes = REGISTRIES[kind].module_dict
    if config.type not in classes:
        raise ConfigError(
            f"{config.path}: no {kind} is registered as {config.type!r}", did_you_mean(config.type, classes)
        )
    return classes[config.type]


def _checked_class(kind: Kind, config: Config) -> type:
    """The class that a config names. Raises ConfigError where the config does not fit it."""
    constructor = _class_of(kind, config)
    if passed := config.arguments.keys() & NOT_FOR_CONFIGS:
        raise ConfigError(f"{config.path} sets {min(passed)}, which only the program passes", "remove it")
    arguments = _constructor_arguments(kind, config)
    offered = [*arguments_of(constructor).keys() - NOT_FOR_CONFIGS, *_not_for_constructor(kind)]
    check_arguments(str(config.path), constructor, arguments, sorted(offered))
    if kind == "backbone":
        _check_method_settings(config)
    if kind == "protocol":
        _check_datasets(constructor, config)
    return constructor


def _constructor_arguments(kind: Kind, config: Config) -> dict[str, object]:
    left_out = _not_for_constructor(kind)
    return {key: value for key, value in config.arguments.items() if key not in left_out}


def _not_for_constructor(kind: Kind) -> tuple[str, ...]:
    return (*FOR_METHODS, FOR_SAMPLING) if kind == "backbone" else ()


def _check_method_settings(config: Config) -> None:
    """Check what a backbone's config holds for all methods, and for single ones."""
    # The type checker reads sources by path, where methods/ is not in segscale/.
    defaults_class = importlib.import_module("segscale.methods.defaults").MethodDefaults
    defaults, presets = (_table(str(config.path), key, config.arguments) for key in FOR_METHODS)
    check_arguments(f"{config.path}, {FOR_METHODS[0]}", defaults_class, defaults)
    check_complete(f"{config.path}, {FOR_METHODS[0]}", defaults_class, defaults)
    settings = importlib.import_module("segscale.backbones.latents.settings")
    sampling = _table(str(config.path), FOR_SAMPLING, config.arguments)
    check_arguments(f"{config.path}, {FOR_SAMPLING}", settings.SamplingDefaults, sampling)
    if FOR_SAMPLING in config.arguments:
        check_complete(f"{config.path}, {FOR_SAMPLING}", settings.SamplingDefaults, sampling)
    for method_name in presets:
        arguments = _table(f"{config.path}, presets", method_name, presets)
        _check_for("method", method_name, f"{config.path}, presets", arguments)


def _check_datasets(constructor: type, config: Config) -> None:
    """Check what a protocol's config holds for single datasets: its own fields, and the dataset's arguments."""
    datasets = _table(str(config.path), "datasets", config.arguments)
    for dataset_name in datasets:
        where = f"{config.path}, datasets[{dataset_name!r}]"
        fields = _table(f"{config.path}, datasets", dataset_name, datasets)
        check_arguments(where, constructor, {key: value for key, value in fields.items() if key != "arguments"})
        _check_for("dataset", dataset_name, f"{config.path}, datasets", _table(where, "arguments", fields))


def _table(where: str, name: str, values: Mapping[str, object]) -> Table:
    """The dictionary of that name, empty where there is none. Raises ConfigError for something else."""
    table = values.get(name, {})
    check_type(where, name, Table, table)
    return cast(Table, table)


def _check_for(kind: Kind, name: str, where: str, arguments: Table) -> None:
    """Check arguments that a config holds for another one."""
    files = config_files(kind)
    if name not in files:
        raise ConfigError(f"{where}: unknown {kind} {name!r}", did_you_mean(name, files))
    check_arguments(f"{where}[{name!r}]", _class_at(kind, files[name]), arguments)


@cache
def _class_at(kind: Kind, path: Path) -> type:
    """The class that a config file names; remembered, because reading a file takes some 20 ms."""
    return _class_of(kind, read_config(path))
