"""The interface of a dataset: images with label maps, and class names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError

if TYPE_CHECKING:
    from .derive import Derivation

IGNORE_LABEL = 255
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """One image.

    label: uint8 ``(height, width)``, class ids, 255 = ignored. caption: None where there is none. present: ids of the
    classes that the dataset's own annotations name, ascending; None where there is no such annotation.
    """

    id: str
    image: Image.Image
    label: NDArray[np.uint8]
    caption: str | None = None
    present: tuple[int, ...] | None = None


class Dataset(ABC):
    """One split of a dataset.

    classes: names in label order; palette: RGB per class; background: the label of "none of them", or None where
    such pixels are ignored. captions: of a caption file, by image id.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    background: int | None
    captions: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def ids(self) -> tuple[str, ...]:
        """Image ids in the split's order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample of ``ids[index]``. Raises UserError naming a missing or damaged file."""

    def caption_of(self, id: str) -> str | None:
        """The caption of an image, None where there is none."""
        return self.captions.get(id)

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Files that this dataset reads and ``segscale data prepare`` makes below ``root``; most need none."""
        return iter(())

    def __len__(self) -> int:
        return len(self.ids)


def unknown_split(dataset: str, split: str, known: tuple[str, ...]) -> UserError:
    return UserError(f"{dataset} has no split {split!r}", f"there are: {', '.join(known)}")
