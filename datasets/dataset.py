"""The interface of a dataset: images with label maps, and class names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError

IGNORE_LABEL = 255
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """One image. label: uint8 ``(height, width)``, class ids, 255 = ignored. caption: None where there is none."""

    id: str
    image: Image.Image
    label: NDArray[np.uint8]
    caption: str | None = None


class Dataset(ABC):
    """One split of a dataset.

    classes: names in label order; background: the label of "none of them"; palette: RGB per class.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    background: int

    @property
    @abstractmethod
    def ids(self) -> tuple[str, ...]:
        """Image ids in the split's order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample of ``ids[index]``. Raises UserError naming a missing or damaged file."""

    def __len__(self) -> int:
        return len(self.ids)


def unknown_split(dataset: str, split: str, known: tuple[str, ...]) -> UserError:
    return UserError(f"{dataset} has no split {split!r}", f"there are: {', '.join(known)}")
