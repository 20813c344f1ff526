"""Datasets of image and mask files: two label views, official splits and a calibration split."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segscale.catalogue import documentation
from segscale.errors import UserError

from .dataset import CALIBRATION, Dataset, Sample, captions_digest, repeated_places
from .files import FileError, file_digest, read_image, read_list, read_mask
from .labels import Colour, LabelTable
from .mmseg_import import import_mmseg

DOCUMENTATION = f"{documentation('datasets.md')} shows the expected folders"
Counts = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Entry:
    """One image of a split and the place of its mask; neither file need exist."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class MaskFolder:
    """A split that is a folder of masks rather than a list of images."""

    images: Path
    masks: Path
    image_suffix: str
    mask_suffix: str

    def entries(self) -> Iterator[Entry]:
        """Every mask with the place of its image, sorted by path."""
        for mask in sorted(self.masks.rglob(f"*{self.mask_suffix}")):
            stem = mask.name.removesuffix(self.mask_suffix)
            image = self.images / mask.parent.relative_to(self.masks) / f"{stem}{self.image_suffix}"
            yield Entry(image.stem, image, mask)


@dataclass(frozen=True)
class Layout:
    """The files and classes of one official split, in the canonical label."""

    classes: Sequence[str]
    """Class names, background first."""
    palette: Sequence[Colour]
    """Colours of the classes."""
    table: LabelTable
    """From the pixel values of a mask to canonical ids."""
    entries: Sequence[Entry]
    masks: MaskFolder | None = None
    """Where the split is a folder and not a list."""
    prepare: str | None = None
    """The command that makes the masks where they are not official files."""


class FolderDataset(Dataset):
    """Images and masks on disk. A subclass states ``official_counts`` and ``layout``."""

    official_counts: ClassVar[Counts] = {}
    """Number of images of every official split: several where official sources differ, none where any is right."""
    subfolder: ClassVar[str] = ""
    """Folder below ``data_root`` that holds everything."""
    fails_at_duplicate_ids = True
    as_shown: ClassVar[bool] = False
    """Whether images are read as viewers show them; masks of published datasets match the stored pixels."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        official = cls.official_counts
        cls.splits = (*official, CALIBRATION) if "train" in official else tuple(official)

    def __init__(
        self,
        *,
        name: str,
        split: str,
        background: bool,
        data_root: str | None = None,
        calibration_images: int = 100,
        captions: str | None = None,
        benchmark: str | None = None,
    ) -> None:
        """Find the files of the split; none is read yet.

        Args:
            name: Name of the config.
            split: An official split, or ``calibration``: images evenly spaced over the sorted train list.
            background: True keeps class 0, "background". False ignores its pixels and lowers all ids by one.
            data_root: Folder of the unpacked dataset, by default ``data/<name>``.
            calibration_images: Number of images in the split ``calibration``.
            captions: Path of a caption file.
            benchmark: Name that protocols know this data by, by default ``name``.

        Raises:
            UserError: The split is unknown, or a folder or list is missing.
        """
        super().__init__(name=name, split=split, benchmark=benchmark)
        self.data_root = Path(data_root or f"data/{name}").expanduser()
        self.root = self.data_root / self.subfolder
        calibrates = split == CALIBRATION
        layout = self.layout("train" if calibrates else split)
        first = 0 if background else 1
        self.background = 0 if background else None
        self.classes = tuple(layout.classes[first:])
        self.palette = tuple(layout.palette[first:])
        self.table = layout.table if background else layout.table.without_background()
        self.entries = evenly_spaced(layout.entries, calibration_images) if calibrates else tuple(layout.entries)
        self.expected_images = (calibration_images,) if calibrates else self.official_counts.get(split, ())
        self._masks = None if calibrates else layout.masks
        self._prepare = layout.prepare
        if not self.entries:
            raise UserError(f"{name} {split} has no image", DOCUMENTATION)
        self._duplicates = repeated_places(self.ids)
        self._read_captions(captions)

    @abstractmethod
    def layout(self, split: str) -> Layout:
        """The files of an official split. Raises UserError for what is missing."""

    def require(self, path: str, hint: str) -> Path:
        """``path`` below ``root``. Raises UserError where it is missing."""
        return require(self.data_root, str(Path(self.subfolder, path)), hint)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.entries)

    @property
    def check_command(self) -> str:
        return f"{super().check_command} --data-root {shlex.quote(str(self.data_root))}"

    @property
    def identity_options(self) -> dict[str, object]:
        return {"background": self.background is not None, "captions": captions_digest(self._captions)}

    @property
    def masks_without_image(self) -> tuple[Entry, ...]:
        """Masks in the split's folder whose image is not there."""
        if self._masks is None:
            return ()
        images = {entry.image for entry in self.entries}
        return tuple(entry for entry in self._masks.entries() if entry.image not in images)

    @property
    def duplicate_ids(self) -> dict[int, FileError]:
        """The error of every entry whose id came before, by index."""
        return {index: self._duplicate(index) for index in self._duplicates}

    def _duplicate(self, index: int) -> FileError:
        entry = self.entries[index]
        first = self.entries[self.ids.index(entry.id)]
        if first.image != entry.image:
            return FileError("duplicate id", f"{first.image} and {entry.image} have one name", "rename one")
        return FileError("duplicate id", f"{self.name} {self.split} lists {entry.id} twice", "list it once")

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        if index in self._duplicates:
            raise self._duplicate(index)
        image = read_image(entry.image, self.as_shown)
        try:
            mask = read_mask(entry.label, image.size, self.table)
        except FileError as error:
            if self._prepare is None:
                raise
            # A prepared mask is made again, not replaced.
            first = "" if error.kind == "missing file" else "remove it and "
            raise FileError(error.kind, error.problem, f"{first}make it with: {self._prepare}") from error
        caption, present = self.caption_of(entry.id), self.present_of(entry)
        return Sample(entry.id, image, mask.ids, caption, present, mask.digest)

    def image_digest(self, index: int) -> str:
        return file_digest(self.entries[index].image)

    def present_of(self, entry: Entry) -> tuple[int, ...] | None:
        """The classes that annotations beside the mask name; None where there are none."""
        return None


def evenly_spaced(entries: Sequence[Entry], count: int) -> tuple[Entry, ...]:
    """``count`` of the entries sorted by id, all where there are fewer."""
    ordered = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: entry.id)
    count = min(count, len(ordered))
    return tuple(ordered[index * len(ordered) // count] for index in range(count))


def require(root: Path, path: str, hint: str) -> Path:
    """``root / path``. Raises UserError where it is missing, with the right root where that is given too deep."""
    if (root / path).exists():
        return root / path
    names, below = root.absolute().parts, Path(path).parts
    for depth in range(1, len(below)):
        outer = Path(*names[:-depth])
        if names[-depth:] == below[:depth] and (outer / path).exists():
            raise UserError(f"{root} lies inside the folder of the dataset", f"use --data-root {outer}")
    raise UserError(f"there is no {root / path}", f"{hint}; {DOCUMENTATION}")


def mmseg_metainfo(dataset_class: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Class names and colours of one of mmsegmentation's dataset classes."""
    metainfo = getattr(import_mmseg("datasets"), dataset_class).METAINFO
    return tuple(name.strip() for name in metainfo["classes"]), tuple((r, g, b) for r, g, b in metainfo["palette"])


def mmseg_entries(
    dataset_class: str,
    root: Path,
    images: str,
    labels: str,
    list_file: str = "",
    **suffixes: str,
) -> list[Entry]:
    """The files that one of mmsegmentation's dataset classes lists, in its order.

    Args:
        dataset_class: Name of the class.
        root: Folder below which the other paths lie.
        images: Folder of the images.
        labels: Folder of the masks.
        list_file: List of the images; without it, all images of the folder.
        suffixes: ``img_suffix`` and ``seg_map_suffix`` where they differ from the class's own.
    """
    source = getattr(import_mmseg("datasets"), dataset_class)(
        data_root=str(root),
        ann_file=list_file,
        data_prefix={"img_path": images, "seg_map_path": labels},
        pipeline=[],
        lazy_init=True,
        **suffixes,
    )
    if list_file:
        paths = [
            (root / images / f"{name}{source.img_suffix}", root / labels / f"{name}{source.seg_map_suffix}")
            for name in read_list(root / list_file)
        ]
    else:
        paths = [(Path(entry["img_path"]), Path(entry["seg_map_path"])) for entry in source.load_data_list()]
    return [Entry(image.stem, image, label) for image, label in paths]


def prepare_command(name: str, root: Path) -> str:
    """The command that makes the masks of a dataset."""
    return f"segscale data prepare {name} --data-root {root}"
