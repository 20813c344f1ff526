"""The pocket dataset, generated: a textured ground with one to three objects, their mask and their caption.

Everything follows from ``(seed, split, index)``; no file is read. Twelve object classes, each with a
shape, a colour range and a texture of its own, on one of four grounds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.prompt import BACKGROUND
from segscale.registry import DATASETS

from .dataset import Sample, captions_digest
from .generated import TRAIN_SCENES, GeneratedDataset, scene_index
from .labels import Colour, LabelTable

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SIZE = 64
MIN_VISIBLE = 20
GROUNDS = ("grass", "sand", "water", "night")


@dataclass(frozen=True)
class Scene:
    """One generated picture and everything it shows."""

    image: NDArray[np.uint8]
    """RGB, ``(64, 64, 3)``."""
    mask: NDArray[np.uint8]
    """Class ids, ``(64, 64)``: 0 = background, ``i`` = ``OBJECTS[i - 1]``."""
    objects: tuple[str, ...]
    """Names in drawing order, without those that a later object covers."""
    ground: str
    """One of ``GROUNDS``."""
    words: tuple[str, ...]
    """All objects and the ground, shuffled."""

    @property
    def caption(self) -> str:
        """The words, such as ``"grass, a star, a ring"``."""
        return caption_of(self.words)


def _polar(x: Array, y: Array) -> tuple[Array, Array]:
    return np.hypot(x, y), np.arctan2(y, x)


def _star(x: Array, y: Array) -> Mask:
    radius, angle = _polar(x, y)
    sector = np.abs((angle * 5 / (2 * np.pi) + 0.25) % 1 - 0.5) * 2
    return radius < 0.48 + 0.6 * sector**1.3


def _heart(x: Array, y: Array) -> Mask:
    y = -1.15 * y + 0.15
    x = 1.15 * x
    return (x**2 + y**2 - 0.85) ** 3 < 1.6 * x**2 * y**3


def _flower(x: Array, y: Array) -> Mask:
    radius, angle = _polar(x, y)
    return radius < 0.72 + 0.3 * np.cos(5 * angle)


# Shapes live in [-1, 1]^2, y pointing down; True inside.
SHAPES: dict[str, Callable[[Array, Array], Mask]] = {
    "gem": lambda x, y: np.abs(x) / 0.8 + np.abs(y) < 1.0,
    "ball": lambda x, y: np.hypot(x, y) < 0.9,
    "leaf": lambda x, y: (np.hypot(x - 0.55, y) < 1.15) & (np.hypot(x + 0.55, y) < 1.15),
    "cone": lambda x, y: (y < 0.9) & (np.abs(x) < 0.05 + 0.42 * (y + 0.95)),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.68) < 0.3,
    "cross": lambda x, y: ((np.abs(x) < 0.34) | (np.abs(y) < 0.34)) & (np.maximum(np.abs(x), np.abs(y)) < 0.95),
    "heart": _heart,
    "flower": _flower,
    "star": _star,
    "stick": lambda x, y: (np.abs(x) < 0.3) & (np.abs(y) < 1.15),
    "moon": lambda x, y: (np.hypot(x, y) < 0.98) & (np.hypot(x - 0.62, y) > 0.75),
    "block": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.78,
}
OBJECTS = tuple(SHAPES)

COLOURS: dict[str, Colour] = {
    "gem": (40, 215, 230),
    "ball": (215, 35, 35),
    "leaf": (150, 235, 40),
    "cone": (250, 135, 20),
    "ring": (250, 225, 60),
    "cross": (245, 245, 245),
    "heart": (250, 105, 190),
    "flower": (165, 60, 230),
    "star": (55, 75, 250),
    "stick": (115, 60, 25),
    "moon": (165, 165, 175),
    "block": (15, 125, 110),
}


def _texture(name: str, x: Array, y: Array) -> Array:
    """Brightness factor of a class at its own coordinates: what tells it from others beside colour."""
    radius = np.hypot(x, y)
    if name in ("gem", "cross"):
        return np.where(np.abs(x) > np.abs(y), 1.0, 0.78)
    if name in ("ball", "moon"):
        return 1.1 - 0.4 * np.hypot(x + 0.35, y + 0.35)
    if name == "leaf":
        return np.where(np.abs(x) < 0.12, 0.6, 1.0)
    if name == "cone":
        return np.where(np.sin(9 * y) > 0, 1.0, 0.72)
    if name == "flower":
        return np.where(radius < 0.3, 1.6, 1.0 - 0.25 * radius)
    if name == "block":
        return np.where(np.sin(8 * x) * np.sin(8 * y) > 0, 1.25, 0.75)
    if name == "star":
        return 1.15 - 0.45 * radius
    if name == "stick":
        return np.where(np.sin(14 * y + 5 * x) > 0, 1.15, 0.8)
    return 1.0 - 0.15 * y


def draw_ground(name: str, rng: np.random.Generator) -> Array:
    """A ground of muted colours, float32 ``(64, 64, 3)`` in 0..255."""
    coarse = rng.normal(size=(8, 8)).astype(np.float32)
    blobs = np.kron(coarse, np.ones((8, 8), np.float32))
    grain = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    rows = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    base = {"grass": (62, 98, 48), "sand": (196, 172, 128), "water": (92, 132, 162), "night": (22, 22, 44)}[name]
    shade = {
        "grass": 9 * grain + 4 * blobs,
        "sand": 7 * grain,
        "water": 7 * np.sin(2 * np.pi * (7 * rows + rng.random())) + 2 * grain,
        "night": np.where(grain > 2.4, 110.0, 0.0) + 2 * grain,
    }[name]
    jitter = rng.normal(0, 7, 3)
    return np.asarray(base, np.float32) + jitter.astype(np.float32) + shade[..., None].astype(np.float32)


def place_objects(radii: list[float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Centres whose objects overlap little: the best of a few draws per object."""
    centres: list[tuple[float, float]] = []
    for i, radius in enumerate(radii):
        tries = rng.uniform(radius * 0.8, SIZE - radius * 0.8, (12, 2))
        clearance = [
            min((np.hypot(*(p - c)) - radius - r for c, r in zip(centres, radii[:i], strict=True)), default=0.0)
            for p in tries
        ]
        x, y = tries[int(np.argmax(np.minimum(clearance, 3.0)))]
        centres.append((float(x), float(y)))
    return centres


def caption_of(words: tuple[str, ...], articles: bool = True, separator: str = ", ") -> str:
    """Words joined to a caption; grounds take no article."""
    return separator.join(w if w in GROUNDS or not articles else f"a {w}" for w in words)


def draw_object(
    canvas: Array, name: str, radius: float, centre: tuple[float, float], rng: np.random.Generator
) -> tuple[Array, Mask]:
    """Paint an object of a class, turned and coloured at random, and say which pixels it took."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    angle = rng.uniform(-0.5, 0.5)
    dx, dy = (columns - centre[0]) / radius, (rows - centre[1]) / radius
    x, y = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside = SHAPES[name](x, y)
    colour = np.clip(np.asarray(COLOURS[name]) + rng.normal(0, 8, 3), 0, 255).astype(np.float32)
    paint = colour * _texture(name, x, y)[..., None] + rng.normal(0, 3, (SIZE, SIZE, 1))
    return np.where(inside[..., None], paint, canvas), inside


def make_scene(seed: int, split: str, index: int) -> Scene:
    """The scene number ``index`` of ``split``; equal arguments give equal bytes."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    ground = str(rng.choice(GROUNDS))
    count = int(rng.integers(1, 4))
    objects = tuple(str(name) for name in rng.choice(OBJECTS, count, replace=False))
    canvas = draw_ground(ground, rng)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    radii = [float(r) for r in rng.uniform(11, 19 if count > 1 else 24, count)]
    for name, radius, centre in zip(objects, radii, place_objects(radii, rng), strict=True):
        canvas, inside = draw_object(canvas, name, radius, centre, rng)
        mask[inside] = OBJECTS.index(name) + 1
    objects = tuple(name for name in objects if np.count_nonzero(mask == OBJECTS.index(name) + 1) >= MIN_VISIBLE)
    words = (*objects, ground)
    shuffled = tuple(words[i] for i in rng.permutation(len(words)))
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(image, mask, objects, ground, shuffled)


@DATASETS.register_module()
class PocketScenes(GeneratedDataset):
    """Scenes with an object or more, and a caption."""

    def __init__(
        self, *, split: str, size: int, background: bool = True, captions: str | None = None, **arguments: Any
    ) -> None:
        """Name the scenes of the split.

        Args:
            split: As of ``GeneratedDataset``.
            size: Number of scenes of a split that is evaluated; ``train`` has all that the twins saw.
            background: True makes grounds a class, False ignores them.
            captions: Path of a file whose captions replace the scenes' own.
            arguments: Of ``GeneratedDataset``.
        """
        super().__init__(split=split, size=TRAIN_SCENES if split == "train" else size, **arguments)
        first, table = 0 if background else 1, LabelTable.consecutive(len(OBJECTS) + 1)
        self.background = 0 if background else None
        self.classes = (BACKGROUND, *OBJECTS)[first:]
        self.palette = ((0, 0, 0), *COLOURS.values())[first:]
        self._table = table if background else table.without_background()
        self._read_captions(captions)

    @property
    def identity_options(self) -> dict[str, object]:
        options: dict[str, object] = {"background": self.background is not None}
        return options | {"captions": captions_digest(self._captions)} if self._captions else options

    def __getitem__(self, index: int) -> Sample:
        scene, id = make_scene(self.seed, self.split, index), self.id_of(index)
        caption = self._captions.get(id) if self._captions else _listing(scene)
        return Sample(id, Image.fromarray(scene.image), self._table.decode(scene.mask), caption)

    def caption_of(self, id: str) -> str | None:
        if self._captions:
            return self._captions.get(id)
        return _listing_of(self.seed, self.split, scene_index(id))


@lru_cache(maxsize=TRAIN_SCENES)
def _listing_of(seed: int, split: str, index: int) -> str:
    return _listing(make_scene(seed, split, index))


def _listing(scene: Scene) -> str:
    """Names without articles, as published captions of real images list them."""
    return caption_of(scene.words, articles=False)
