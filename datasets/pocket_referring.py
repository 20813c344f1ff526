"""Generated referring segmentation: scenes with two of a kind, one expression each."""

from __future__ import annotations

import numpy as np
from PIL import Image

from segscale.errors import UserError
from segscale.registry import DATASETS

from .dataset import CALIBRATION, Dataset, Sample
from .pocket_pairs import Expression, PairScene, make_pair_scene
from .referring import CLASSES, PALETTE, TARGET_ID


@DATASETS.register_module()
class PocketReferring(Dataset):
    """Scenes with two of a kind; of a scene's expressions one is asked, in turn. Training saw the split ``train``."""

    splits = ("train", CALIBRATION, "val")
    expressions = True
    classes = CLASSES
    palette = PALETTE
    background = 0

    def __init__(
        self,
        *,
        name: str,
        split: str,
        size: int,
        seed: int = 0,
        data_root: str | None = None,
        benchmark: str | None = None,
    ) -> None:
        """Generate the split.

        Args:
            name: Name of the config.
            split: Any of ``splits``.
            size: Number of scenes.
            seed: Seed of the scenes, 0 for the shipped twin.
            data_root: Must be None, as no folder is read.
            benchmark: Name that protocols know this data by, by default ``name``.

        Raises:
            UserError: The split is unknown, or a folder is named.
        """
        super().__init__(name=name, split=split, benchmark=benchmark)
        if data_root is not None:
            raise UserError(f"{name} is generated and reads no folder", "leave out --data-root")
        self.size = size
        self.seed = seed

    @property
    def ids(self) -> tuple[str, ...]:
        name = self.split if self.seed == 0 else f"{self.split}-seed{self.seed}"
        return tuple(f"{name}-{index:05d}" for index in range(self.size))

    def __getitem__(self, index: int) -> Sample:
        scene, asked = self._asked(index)
        label = asked.target.astype(np.uint8) * np.uint8(TARGET_ID)
        return Sample(self.ids[index], Image.fromarray(scene.image), label, asked.text, present=(TARGET_ID,))

    def caption_of(self, id: str) -> str | None:
        return self._asked(int(id.rpartition("-")[2]))[1].text

    def _asked(self, index: int) -> tuple[PairScene, Expression]:
        scene = make_pair_scene(self.seed, self.split, index)
        return scene, scene.expressions[index % len(scene.expressions)]
