"""The interface of a dataset: images with label maps, and class names."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError

from .files import DIGEST, digest
from .labels import IGNORE_LABEL, Colour
from .prompts.caption_file import CaptionGaps, captions_of

if TYPE_CHECKING:
    from .prepare import Derivation

CALIBRATION = "calibration"
"""The split on which thresholds are chosen; no evaluation uses its images."""


@dataclass(frozen=True)
class Digests:
    """What the numbers of one image were made of."""

    image: str
    """Of the image's file, or of its pixels where they come from no file."""
    label: str
    """Of the mask's file or of the class ids, and of what annotations name."""


@dataclass(frozen=True)
class Sample:
    """One image with its label map."""

    id: str
    image: Image.Image
    label: NDArray[np.uint8]
    """Class ids, uint8 ``(height, width)``; 255 is ignored."""
    caption: str | None = None
    present: tuple[int, ...] | None = None
    """Ids of the classes that the dataset's own annotations name, ascending; None where it has no such annotations."""
    mask_digest: str | None = None
    """Of the file of the mask; None where ``label`` itself has to tell."""

    @cached_property
    def digests(self) -> Digests:
        """What this sample was made of; ``read_image`` left the digest of the image's file."""
        image = self.image.info.get(DIGEST) or digest(self.image.mode.encode(), self.image.tobytes())
        label = self.mask_digest or digest(str(self.label.shape).encode(), self.label.tobytes())
        return Digests(image, label if self.present is None else digest(f"{label} {self.present}".encode()))


class Dataset(ABC):
    """One split of a dataset."""

    splits: tuple[str, ...] = ()
    """Names of all splits. Every split has its own images; those of ``calibration`` are in no evaluated split."""
    fails_at_duplicate_ids: ClassVar[bool] = False
    """True where reading an image whose id came before raises FileError, so that a run can leave it out."""
    expressions: ClassVar[bool] = False
    """Whether the caption of a sample is an expression, and its label the mask of what that means."""
    expected_images: tuple[int, ...] = ()
    """Numbers of images that the whole split may have; empty where any is right."""
    name: str
    benchmark: str
    """What protocols know this data by: a config's own name, or that of the shipped config which it varies."""
    split: str
    classes: tuple[str, ...]
    """Class names in label order."""
    palette: tuple[Colour, ...]
    """RGB colour of every class."""
    background: int | None
    """The label of pixels that belong to no other class; None where those pixels are ignored."""
    _captions: Mapping[str, str] = MappingProxyType({})
    _caption_gaps: CaptionGaps | None = None

    def __init__(self, *, name: str, split: str, benchmark: str | None = None) -> None:
        """Raises UserError for a split that ``splits`` does not name."""
        self.name = name
        self.benchmark = benchmark or name
        self.split = split
        check_split(self)

    @property
    @abstractmethod
    def ids(self) -> tuple[str, ...]:
        """Image ids of the split, in its order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample of ``ids[index]``. Raises FileError for a missing or damaged file."""

    def image_digest(self, index: int) -> str:
        """As of the sample's digests, that of the image. Raises FileError for a missing or damaged file."""
        return self[index].digests.image

    @property
    def check_command(self) -> str:
        """The command that says what is wrong with the data."""
        return f"segscale data check {self.name} --split {self.split}"

    @property
    def identity_options(self) -> dict[str, object]:
        """Plain values that change samples beside name, split and ids; they are part of a run's identity."""
        return {}

    def _read_captions(self, path: str | None) -> None:
        """Take the captions of all ``ids`` from a file, where one is named."""
        if path is not None:
            named = captions_of(self.ids, path)
            self._captions, self._caption_gaps = named.by_id, named.gaps

    def caption_of(self, id: str) -> str | None:
        """The caption of an image, None where it has none."""
        return self._captions.get(id)

    @property
    def caption_gaps(self) -> CaptionGaps | None:
        """What the caption file that a user named leaves out; None where none was named."""
        return self._caption_gaps

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """The files that ``segscale data prepare`` makes below ``root`` for this dataset; most need none."""
        return iter(())

    def __len__(self) -> int:
        return len(self.ids)


class DatasetWithoutSamples(Dataset):
    """Names and classes for samples that come from elsewhere."""

    @property
    def ids(self) -> tuple[str, ...]:
        return ()

    def __getitem__(self, index: int) -> Sample:
        raise IndexError(index)


def check_dataset(dataset: Dataset) -> None:
    """Raises UserError, in one line, for a dataset that contradicts itself or has no image."""
    check_split(dataset)
    if not len(dataset):
        hint = "name the folder of its files with --data-root, or correct its module"
        raise UserError(f"{dataset.name} {dataset.split} has no image", hint)
    problem = next(_contradictions(dataset), None)
    if problem is not None:
        raise UserError(f"dataset {dataset.name}: {problem}", "correct its module or its config")


def check_split(dataset: Dataset) -> None:
    """Raises UserError for a dataset that does not know its own split."""
    if not dataset.splits:
        raise UserError(
            f"dataset class {type(dataset).__name__} names no splits", "set them in the class: splits = ('val',)"
        )
    if dataset.split not in dataset.splits:
        raise UserError(f"{dataset.name} has no split {dataset.split!r}", f"there are: {', '.join(dataset.splits)}")


def _contradictions(dataset: Dataset) -> Iterator[str]:
    classes, colours = dataset.classes, len(dataset.palette)
    if not 0 < len(classes) <= IGNORE_LABEL:
        yield f"it has {len(classes)} classes, not 1 to {IGNORE_LABEL}"
    for name in _repeated(classes):
        yield f"two classes are called {name!r}"
    for name in _repeated(name.strip().casefold() for name in classes):
        yield f"two classes are called {name!r} but for case"
    if colours != len(classes):
        yield f"its palette has {colours} colours for {len(classes)} classes"
    if dataset.background not in (None, *range(len(classes))):
        yield f"its background {dataset.background} is none of {len(classes)} classes"
    if not dataset.fails_at_duplicate_ids:
        for id in _repeated(dataset.ids):
            yield f"{id!r} is twice in the split {dataset.split}"


def _repeated(items: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for item in items:
        if item in seen:
            yield item
        seen.add(item)


def first_places(ids: Iterable[str]) -> dict[str, int]:
    """The place of every id, of a repeated one the first."""
    places: dict[str, int] = {}
    for place, id in enumerate(ids):
        places.setdefault(id, place)
    return places


def repeated_places(ids: Sequence[str]) -> frozenset[int]:
    """Places of ids that stand at an earlier place, too."""
    return frozenset(range(len(ids))).difference(first_places(ids).values())


def captions_digest(captions: Mapping[str, str]) -> str | None:
    """SHA-256 of the captions of a split; None where there are none."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest() if captions else None
