"""Datasets of generated scenes: how these are divided and named.

It loads no registry, because the table of the ladder reads it.
"""

from __future__ import annotations

from segscale.errors import UserError

from .dataset import CALIBRATION, Dataset

TRAIN_SCENES = 24_000
"""What the shipped twins were trained on."""


class GeneratedDataset(Dataset):
    """Scenes that follow from seed, split and index; twins were trained on the split ``train`` of seed 0 alone."""

    splits = ("train", CALIBRATION, "val")

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
        """Name the scenes of a split.

        Args:
            name: Name of the config.
            split: Any of ``splits``.
            size: Number of scenes.
            seed: Seed of the scenes, 0 for the shipped twins.
            data_root: Must be None, as no folder is read.
            benchmark: Name that protocols know this data by, by default ``name``.

        Raises:
            UserError: The split is unknown, or a folder is named.
        """
        super().__init__(name=name, split=split, benchmark=benchmark)
        if data_root is not None:
            raise UserError(f"{name} is generated and reads no folder", "leave out --data-root")
        self.size, self.seed = size, seed

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(self.id_of, range(self.size)))

    def id_of(self, index: int) -> str:
        """The id of a scene; the seed of the shipped twins stands in none."""
        return f"{self.split if self.seed == 0 else f'{self.split}-seed{self.seed}'}-{index:05d}"


def scene_index(id: str) -> int:
    """The number of the scene with this id."""
    return int(id.rpartition("-")[2])
