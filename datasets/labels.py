"""Tables from the pixel values of a mask to class ids.

Every dataset decodes to one canonical label: 0 = background, other or unlabelled, ``1..K`` = the classes in official
order, 255 = void. It is shown in one of two views: with background as class 0, or with ids from 0 to ``K - 1`` where
background is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

IGNORE_LABEL = 255
VALUES = 256
Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The class id of every pixel value."""

    ids: NDArray[np.uint8]
    """Class ids by pixel value, ``(256,)``."""
    known: NDArray[np.bool_]
    """True for the values that a mask may hold, ``(256,)``."""
    colours: Mapping[Colour, int] = field(default_factory=dict)
    """The pixel value of every colour that a coloured mask may hold; without any, masks have one channel."""

    @classmethod
    def of(cls, mapping: Mapping[int, int]) -> LabelTable:
        """The table of a mapping from pixel value to class id; all other values are unknown."""
        ids, known = np.full(VALUES, IGNORE_LABEL, np.uint8), np.zeros(VALUES, np.bool_)
        for value, id in mapping.items():
            ids[value], known[value] = id, True
        return cls(ids, known)

    @classmethod
    def consecutive(cls, classes: int) -> LabelTable:
        """The table whose values ``0..classes - 1`` are ids, and 255 is ignored."""
        return cls.of({value: value for value in (*range(classes), IGNORE_LABEL)})

    def without_background(self) -> LabelTable:
        """The view in which canonical 0 is ignored and every class has its id less one."""
        drop = np.arange(VALUES, dtype=np.uint8) - np.uint8(1)
        drop[IGNORE_LABEL] = IGNORE_LABEL
        return replace(self, ids=drop[self.ids])

    def coloured(self, colours: Mapping[Colour, int]) -> LabelTable:
        """The table that also reads masks in these colours."""
        return replace(self, colours=colours)

    def decode(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The class ids of pixel values."""
        return self.ids[values]

    def unknown(self, values: NDArray[np.uint8]) -> list[int]:
        """Values that are not known, ascending."""
        return [value for value in values_in(values) if not self.known[value]]

    @property
    def ranges(self) -> str:
        """The known values in words, such as ``from 0 to 20, 255``."""
        values = np.flatnonzero(self.known)
        runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
        return ", ".join(f"from {run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def values_in(values: NDArray[np.uint8]) -> list[int]:
    """The values that occur, ascending."""
    return np.flatnonzero(np.bincount(values.ravel(), minlength=VALUES)).tolist()


def colour_map(count: int) -> tuple[Colour, ...]:
    """Colours of Pascal VOC's map: the bits of the index, spread over red, green and blue from the highest bit down."""
    return tuple(_colour(index) for index in range(count))


def _colour(index: int) -> Colour:
    red, green, blue = (
        sum(((index >> (3 * step + channel)) & 1) << (7 - step) for step in range(3)) for channel in range(3)
    )
    return red, green, blue
