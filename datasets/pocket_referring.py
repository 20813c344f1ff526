"""Generated referring segmentation: scenes with two of a kind, one expression each."""

from __future__ import annotations

import numpy as np
from PIL import Image

from segscale.registry import DATASETS

from .dataset import Sample
from .generated import GeneratedDataset, scene_index
from .pocket_pairs import Expression, PairScene, make_pair_scene
from .referring import CLASSES, PALETTE, TARGET_ID


@DATASETS.register_module()
class PocketReferring(GeneratedDataset):
    """Scenes with two of a kind; of a scene's expressions one is asked, in turn."""

    expressions = True
    classes = CLASSES
    palette = PALETTE
    background = 0

    def __getitem__(self, index: int) -> Sample:
        scene, asked = self._asked(index)
        label = asked.target.astype(np.uint8) * np.uint8(TARGET_ID)
        return Sample(self.id_of(index), Image.fromarray(scene.image), label, asked.text, present=(TARGET_ID,))

    def caption_of(self, id: str) -> str | None:
        return self._asked(scene_index(id))[1].text

    def _asked(self, index: int) -> tuple[PairScene, Expression]:
        scene = make_pair_scene(self.seed, self.split, index)
        return scene, scene.expressions[index % len(scene.expressions)]
