"""Generated scenes with two of a kind, and the expressions that single one of them out.

Everything follows from ``(seed, split, index)``. Colour and texture of a pair are alike, so that only place or size
tells which is meant: "the left star", "the larger ring". Half of the scenes show a third object, whose expression is
its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pocket import GROUNDS, MIN_VISIBLE, OBJECTS, Mask, draw_ground, draw_object, place_objects

RELATIONS = ("left", "right", "upper", "lower", "larger", "smaller")
"""Words of expressions beside names; a twin's tokenizer knows them."""
CLEAR_DISTANCE = 14.0
"""Pixels between centres from which on one object is left of, or above, another."""
CLEAR_RATIO = 1.35
"""Of radii, from which on one object is the larger."""


@dataclass(frozen=True)
class Expression:
    """A text that means one object of a picture."""

    text: str
    target: NDArray[np.bool_]
    """The object's visible pixels, ``(64, 64)``."""


@dataclass(frozen=True)
class PairScene:
    """One generated picture with two objects of one class."""

    image: NDArray[np.uint8]
    """RGB, ``(64, 64, 3)``."""
    expressions: tuple[Expression, ...]
    """All that hold; two or more."""


@dataclass(frozen=True)
class _Placed:
    name: str
    radius: float
    centre: tuple[float, float]
    visible: Mask


def make_pair_scene(seed: int, split: str, index: int) -> PairScene:
    """The scene number ``index`` of ``split``; equal arguments give equal bytes."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{split} of pairs".encode()), index])
    while True:
        scene = _draw(rng)
        if scene is not None:
            return scene


def _draw(rng: np.random.Generator) -> PairScene | None:
    """A scene, or None where an object is covered."""
    canvas = draw_ground(str(rng.choice(GROUNDS)), rng)
    pair, third = (str(name) for name in rng.choice(OBJECTS, 2, replace=False))
    names = (pair, pair, third) if rng.random() < 0.5 else (pair, pair)
    radii = [float(radius) for radius in rng.uniform(9, 18, len(names))]
    placed: list[_Placed] = []
    for name, radius, centre in zip(names, radii, place_objects(radii, rng), strict=True):
        canvas, inside = draw_object(canvas, name, radius, centre, rng)
        placed = [_Placed(each.name, each.radius, each.centre, each.visible & ~inside) for each in placed]
        placed.append(_Placed(name, radius, centre, inside))
    if any(np.count_nonzero(each.visible) < MIN_VISIBLE for each in placed):
        return None
    expressions = tuple(_expressions(placed))
    return PairScene(np.clip(canvas, 0, 255).astype(np.uint8), expressions) if len(expressions) > 1 else None


def _expressions(placed: list[_Placed]) -> Iterator[Expression]:
    """Every expression that means one object, of the pair by clear relations alone."""
    first, second = placed[:2]
    (x, y), (other_x, other_y) = first.centre, second.centre
    relations = (
        (("left", "right"), other_x - x, CLEAR_DISTANCE),
        (("upper", "lower"), other_y - y, CLEAR_DISTANCE),
        (("larger", "smaller"), np.log(first.radius / second.radius), np.log(CLEAR_RATIO)),
    )
    for (of_first, of_second), difference, clear in relations:
        if abs(difference) >= clear:
            chosen, other = (first, second) if difference > 0 else (second, first)
            yield Expression(f"the {of_first} {chosen.name}", chosen.visible)
            yield Expression(f"the {of_second} {other.name}", other.visible)
    for each in placed[2:]:
        yield Expression(f"the {each.name}", each.visible)
