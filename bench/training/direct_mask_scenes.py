"""What a generator of masks is trained and tested on: pocket scenes with a text and the mask that it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ...backbones.latents.pictures import TOGETHER, latents_of, picture_values, pictures_of
from ...backbones.pocket.train import training_caption
from ...datasets.pocket import OBJECTS, Scene, make_scene
from ...datasets.pocket_pairs import PairScene, make_pair_scene

SEED = 0
ARTICLES = ("a ", "the ", "")
ABSENT_SHARE = 0.15
"""Of prompts for masks: how often the class is not in the picture, so that the mask is empty."""
PAIR_SHARE = 0.35
"""Of prompts for masks: how often it is an expression about a scene with two of a kind."""


@dataclass(frozen=True)
class PromptedMasks:
    """Pictures with a text each, and what it means."""

    pictures: Tensor
    """Clean latents, float32 ``(n, 4, 16, 16)``."""
    texts: list[str]
    masks: NDArray[np.bool_]
    """``(n, 64, 64)``."""
    scenes: tuple[int, ...] = ()
    """The number of the scene of each, where every text of a scene is asked."""


def grey_of(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """What latents of masks show: float32 ``(n, height, width)``, about 1 in a mask and 0 outside."""
    return (pictures_of(vae, latents).mean(1) + 1) / 2


class MaskScenes:
    """Plain scenes and scenes with two of a kind, with the latents of their pictures."""

    def __init__(self, vae: AutoencoderKL, split: str, plain: int, pairs: int) -> None:
        """Generate scenes of a split."""
        self.identity: dict[str, JsonValue] = {"split": split, "plain_scenes": plain, "pair_scenes": pairs}
        self._scenes = [make_scene(SEED, split, index) for index in range(plain)]
        self._pairs = [make_pair_scene(SEED, split, index) for index in range(pairs)]
        self._latents = _scene_latents(vae, [scene.image for scene in self._scenes])
        self._pair_latents = _scene_latents(vae, [scene.image for scene in self._pairs])

    def captioned(self, count: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Draw latents of plain scenes, and a caption of each."""
        chosen = rng.integers(len(self._scenes), size=count)
        return self._latents[torch.from_numpy(chosen)], [training_caption(self._scenes[i], rng) for i in chosen]

    def prompted(self, count: int, rng: np.random.Generator) -> PromptedMasks:
        """Draw pictures with a class or an expression each, and their masks."""
        pictures, texts, masks = [], [], []
        for _ in range(count):
            if self._pairs and rng.random() < PAIR_SHARE:
                index = int(rng.integers(len(self._pairs)))
                text, mask = _drawn_expression(self._pairs[index], rng)
                pictures.append(self._pair_latents[index])
            else:
                index = int(rng.integers(len(self._scenes)))
                text, mask = _drawn_class(self._scenes[index], rng)
                pictures.append(self._latents[index])
            texts.append(text)
            masks.append(mask)
        return PromptedMasks(torch.stack(pictures), texts, np.stack(masks))

    def every_class(self) -> PromptedMasks:
        """Every plain scene with each of its classes, "a star"."""
        shown = [(index, name) for index, scene in enumerate(self._scenes) for name in scene.objects]
        masks = np.stack([class_mask(self._scenes[index], name) for index, name in shown])
        scenes = [index for index, _ in shown]
        return PromptedMasks(self._latents[scenes], [f"a {name}" for _, name in shown], masks, tuple(scenes))

    @property
    def every_caption(self) -> tuple[Tensor, list[str]]:
        """Latents of all plain scenes, and their captions."""
        return self._latents, [scene.caption for scene in self._scenes]


def class_mask(scene: Scene, name: str) -> NDArray[np.bool_]:
    """The pixels of a class, none where the scene does not show it."""
    return scene.mask == OBJECTS.index(name) + 1


def _scene_latents(vae: AutoencoderKL, images: Iterable[NDArray[np.uint8]]) -> Tensor:
    images = list(images)
    if not images:
        return torch.empty(0)
    starts = range(0, len(images), TOGETHER)
    return torch.cat([latents_of(vae, picture_values(images[i : i + TOGETHER])) for i in starts])


def _drawn_class(scene: Scene, rng: np.random.Generator) -> tuple[str, NDArray[np.bool_]]:
    shown = scene.objects
    if not shown or rng.random() < ABSENT_SHARE:
        shown = tuple(name for name in OBJECTS if name not in shown)
    name = str(rng.choice(shown))
    return f"{rng.choice(ARTICLES)}{name}", class_mask(scene, name)


def _drawn_expression(scene: PairScene, rng: np.random.Generator) -> tuple[str, NDArray[np.bool_]]:
    expression = scene.expressions[int(rng.integers(len(scene.expressions)))]
    return expression.text, expression.target
