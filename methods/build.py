"""Builds a method for a backbone: the config's own fields, the backbone's preset for it, and its defaults."""

from __future__ import annotations

from dataclasses import MISSING, fields

from segscale.arguments import check_complete
from segscale.catalogue import config_file
from segscale.registry import METHODS, build, load_config

from .defaults import MethodDefaults
from .method import Method


def build_method(method_name: str, backbone_name: str, /, **choices: object) -> Method:
    """Build the method as it runs on a backbone.

    ``choices`` win over the backbone's preset, which wins over the method's config, which wins over the backbone's
    defaults for fields that the method requires.
    """
    config = load_config("method", method_name, imports=True)
    backbone = load_config("backbone", backbone_name, imports=True)
    method_class = METHODS.get(config.pop("type")) or Method
    required = _required_fields(method_class)
    recommended = vars(MethodDefaults(**backbone["method_defaults"]))
    defaults = {name: value for name, value in recommended.items() if name in required}
    arguments = defaults | config | backbone.get("presets", {}).get(method_name, {}) | choices
    place = f" there, or in presets of {config_file('backbone', backbone_name)}"
    check_complete(str(config_file("method", method_name)), method_class, {"name": method_name} | arguments, place)
    return build("method", method_name, **arguments)


def method_defaults(backbone_name: str) -> MethodDefaults:
    """Read what the backbone's config recommends to methods."""
    return MethodDefaults(**load_config("backbone", backbone_name, imports=True)["method_defaults"])


def _required_fields(method_class: type[Method]) -> set[str]:
    return {
        field.name for field in fields(method_class) if field.default is MISSING and field.default_factory is MISSING
    }
