"""Colours of classes that nobody chose: as far from each other as there are colours."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .labels import Colour

BLACK: Colour = (0, 0, 0)
# Told apart with any kind of colour vision: Okabe and Ito, Color Universal Design, 2008, without black.
OKABE_ITO: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
STEPS = 16
"""Of each channel, between which further colours are chosen."""
# From linear sRGB to CIE XYZ relative to white D65, IEC 61966-2-1.
XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]])


@cache
def class_colours(count: int) -> tuple[Colour, ...]:
    """Black for background, the colours of Okabe and Ito, then always the one farthest from all before and white.

    A class keeps its colour when classes are added behind it.
    """
    chosen = [BLACK, *OKABE_ITO][:count]
    channel = np.linspace(0, 255, STEPS).round()
    candidates = np.stack(np.meshgrid(channel, channel, channel), -1).reshape(-1, 3)
    places = lab(candidates)
    nearest = np.min([_distances(places, colour) for colour in (*chosen, (255, 255, 255))], axis=0)
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        red, green, blue = (int(part) for part in candidates[farthest])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distances(places, chosen[-1]))
    return tuple(chosen)


def lab(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of sRGB values in 0..255, ``(n, 3)``; distances in it are about as large as they look."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ XYZ.T
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _distances(places: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    return np.linalg.norm(places - lab(np.array([colour], np.float64)), axis=1)
