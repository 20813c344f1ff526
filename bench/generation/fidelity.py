"""Fidelity to captions: how many named objects pictures show, and how many shown ones are named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.pocket import GROUNDS, OBJECTS
from ..evaluation.intervals import Estimate
from ..evaluation.shares import estimate_ratio

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Fidelity:
    """Sums over pictures, as shares with intervals over pictures."""

    recall: Estimate
    """Of the named objects, those that are shown."""
    precision: Estimate
    """Of the shown objects, those that are named."""
    f1: Estimate
    """The harmonic mean of both, twice the hits over named and shown."""


def fidelity(named: Flags, shown: Flags) -> Fidelity:
    """Compare what captions name with what pictures show, both ``(pictures, objects)``."""
    hits, names, shows = (flags.sum(1).astype(float) for flags in (named & shown, named, shown))
    return Fidelity(estimate_ratio(hits, names), estimate_ratio(hits, shows), estimate_ratio(2 * hits, names + shows))


@dataclass(frozen=True)
class Chance:
    """The same with captions shuffled among pictures: what pictures that follow no caption would get."""

    recall: float
    precision: float
    f1: float


def chance(named: Flags, shown: Flags) -> Chance:
    """Average over all ways to give every picture the caption of another; at least two pictures."""
    others = len(named) - 1
    pairs = named.sum(0, dtype=float) @ shown.sum(0, dtype=float) - np.count_nonzero(named & shown)
    hits, names, shows = pairs / others, named.sum(), shown.sum()
    return Chance(hits / names, hits / shows if shows else 0.0, 2 * hits / (names + shows))


def named_objects(captions: Iterable[str]) -> Flags:
    """Return which of ``OBJECTS`` each caption names, ``(captions, objects)``."""
    return np.array([[name in _words(caption) for name in OBJECTS] for caption in captions], np.bool_)


def named_ground(captions: Iterable[str]) -> NDArray[np.int64]:
    """Return which of ``GROUNDS`` each caption names, -1 for none."""
    places = ([i for i, name in enumerate(GROUNDS) if name in _words(caption)] for caption in captions)
    return np.array([found[0] if found else -1 for found in places], np.int64)


def _words(caption: str) -> list[str]:
    return caption.lower().replace(",", " ").split()
