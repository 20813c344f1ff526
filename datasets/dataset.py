"""The interface of a dataset: images with label maps, and class names."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError

from .labels import Colour

if TYPE_CHECKING:
    from .prepare import Derivation


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
    such pixels are ignored.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    background: int | None

    @property
    @abstractmethod
    def ids(self) -> tuple[str, ...]:
        """Image ids in the split's order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample of ``ids[index]``. Raises UserError naming a missing or damaged file."""

    @property
    def choices(self) -> dict[str, Any]:
        """What beside name, split and ids decides samples, as plain values: it is in a run's identity."""
        return {}

    def caption_of(self, id: str) -> str | None:
        """The caption of an image, None where there is none."""
        return None

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """Files that this dataset reads and ``segscale data prepare`` makes below ``root``; most need none."""
        return iter(())

    def __len__(self) -> int:
        return len(self.ids)


def unknown_split(dataset: str, split: str, known: tuple[str, ...]) -> UserError:
    return UserError(f"{dataset} has no split {split!r}", f"there are: {', '.join(known)}")


def captions_digest(captions: Mapping[str, str]) -> str | None:
    """SHA-256 of the captions of a split; None where there are none."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest() if captions else None
