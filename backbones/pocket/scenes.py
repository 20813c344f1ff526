"""Generated scenes as training batches."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ...datasets.pocket import Scene, make_scene
from ..latents.pictures import picture_values

TRAIN_SEED = 0


def scene_batch(indices: Iterable[int]) -> tuple[Tensor, list[Scene]]:
    """Make training scenes, and their images as float32 ``(n, 3, 64, 64)`` in [-1, 1]."""
    scenes = [make_scene(TRAIN_SEED, "train", index) for index in indices]
    return picture_values([scene.image for scene in scenes]), scenes
