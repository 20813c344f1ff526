"""Generated scenes as training batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ...datasets.pocket import Scene, make_scene

TRAIN_SEED = 0


def scene_batch(indices: Iterable[int]) -> tuple[Tensor, list[Scene]]:
    """Make training scenes, and their images as float32 ``(n, 3, 64, 64)`` in [-1, 1]."""
    scenes = [make_scene(TRAIN_SEED, "train", index) for index in indices]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1, scenes
