"""Checks arguments against the class that takes them, by their names and by the types that it annotates."""

from __future__ import annotations

import inspect
import reprlib
import sys
from collections import ChainMap
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from functools import cache
from types import GenericAlias, MappingProxyType
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from segscale.errors import ConfigError, did_you_mean

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor."""

    annotation: Hashable
    required: bool
    """False also for what a base class requires: a class may give that by itself."""


@cache
def arguments_of(constructor: type) -> Mapping[str, Argument]:
    """Arguments by name, with those of base classes to which ``__init__`` forwards its ``**arguments``."""
    arguments: dict[str, Argument] = {}
    for index, owner in enumerate(_constructing_classes(constructor)):
        for parameter in _parameters(owner):
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                required = index == 0 and parameter.default is parameter.empty
                arguments.setdefault(parameter.name, Argument(_resolved(parameter.annotation, owner), required))
    return MappingProxyType(arguments)


def _constructing_classes(constructor: type) -> Iterator[type]:
    """Classes with an ``__init__``, as far as each forwards to the next."""
    for owner in constructor.__mro__[:-1]:
        if "__init__" in vars(owner):
            yield owner
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in _parameters(owner)):
                return


def _parameters(owner: type) -> list[inspect.Parameter]:
    """Parameters of the class's own ``__init__``, without self."""
    return list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]


def _resolved(annotation: object, owner: type) -> object:
    """The type that an annotation names; a dataclass has annotations of its bases' modules, too."""
    if isinstance(annotation, str):
        modules = (vars(sys.modules[base.__module__]) for base in owner.__mro__)
        try:
            annotation = eval(annotation, {}, ChainMap(*modules))
        except (NameError, AttributeError):
            # Imported for the type checker alone: there is nothing to compare with.
            return object
    if annotation is inspect.Parameter.empty:
        return object
    return annotation.type if isinstance(annotation, InitVar) else annotation


def check_arguments(
    where: str, constructor: type, values: Mapping[str, object], offered: Iterable[str] | None = None
) -> None:
    """Raises ConfigError, which begins with ``where``, for an unknown name or a value of the wrong type.

    The hint for an unknown name offers those ``offered``, by default all.
    """
    arguments = arguments_of(constructor)
    for name, value in values.items():
        if name not in arguments:
            hint = did_you_mean(name, arguments if offered is None else offered)
            raise ConfigError(f"{where}: {constructor.__name__} takes no {name!r}", hint)
        check_type(where, name, arguments[name].annotation, value)


def check_complete(where: str, constructor: type, values: Mapping[str, object], place: str = "") -> None:
    """Raises ConfigError, which begins with ``where``, for a required argument without value; ``place`` can set it."""
    for name, argument in arguments_of(constructor).items():
        if argument.required and name not in values:
            raise ConfigError(f"{where}: {constructor.__name__} needs {name}", f"set {name}{place}")


def check_type(where: str, name: str, annotation: Hashable, value: object) -> None:
    """Raises ConfigError, which begins with ``where``, for a value that has not the annotated type."""
    try:
        _adapter(annotation, repr(annotation)).validate_python((value,))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_type_problem(error, name, value)}", f"correct {name}") from error


@cache
def _adapter(annotation: Hashable, _written: str) -> TypeAdapter[Any]:
    """Of a type; as it is written, too, because equal unions name their parts in either order."""
    # pydantic takes no configuration for a dataclass alone, but for a tuple of one.
    return TypeAdapter(cast(type, GenericAlias(tuple, (annotation,))), config=STRICT)


def _type_problem(error: ValidationError, name: str, value: object) -> str:
    details = error.errors(include_url=False)
    expected = dict.fromkeys(detail["msg"].removeprefix("Input should be ") for detail in details)
    place = _place(name, details[0]["loc"][1:], value)
    return f"{place} = {reprlib.repr(details[0]['input'])} should be {' or '.join(expected)}"


def _place(name: str, location: tuple[int | str, ...], value: object) -> str:
    """The name with the indices and keys that lead to a part; steps that name a branch of a union lead nowhere."""
    for step in location:
        try:
            value = value[step]  # pyright: ignore[reportIndexIssue]
        except (KeyError, IndexError, TypeError):
            continue
        name = f"{name}[{step!r}]"
    return name
