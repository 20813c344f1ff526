"""Datasets of image and mask files: two label views, official splits and a calibration split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from segscale.errors import UserError

from .dataset import Dataset, Sample, captions_digest, unknown_split
from .files import FileError, read_ids, read_image
from .labels import Colour, LabelTable
from .mmseg_import import import_mmseg
from .prompts.published import read_captions

CALIBRATION = "calibration"
DOCUMENTATION = "docs/datasets.md shows the expected folders"
Counts = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Entry:
    """One image of a split and where its mask belongs; neither file need exist."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class MaskFolder:
    """Where the masks of a split lie that no file lists, and where the image of each belongs."""

    images: Path
    masks: Path
    image_suffix: str
    mask_suffix: str

    def entries(self) -> Iterator[Entry]:
        """Every mask, sorted by path."""
        for mask in sorted(self.masks.rglob(f"*{self.mask_suffix}")):
            stem = mask.name.removesuffix(self.mask_suffix)
            image = self.images / mask.parent.relative_to(self.masks) / f"{stem}{self.image_suffix}"
            yield Entry(image.stem, image, mask)


@dataclass(frozen=True)
class Layout:
    """What a dataset module knows of its files, in the canonical label.

    classes, palette: background first. table: pixel values of a mask to canonical ids. masks: where the split is a
    folder and not a list. prepare: the command that makes the masks, where they are not official files.
    """

    classes: Sequence[str]
    palette: Sequence[Colour]
    table: LabelTable
    entries: Sequence[Entry]
    masks: MaskFolder | None = None
    prepare: str | None = None


class FolderDataset(Dataset):
    """Images and masks on disk.

    data_root: by default ``data/<name>``. background: True keeps class 0, "background"; False ignores its pixels and
    lowers all ids by one. captions: path of a file that ``read_captions`` reads. The split ``calibration`` is
    ``calibration_images`` images evenly spaced over the sorted train list.
    """

    official: ClassVar[Counts]
    """Number of images of every official split; several where official sources differ."""
    below: ClassVar[str] = ""
    """Folder below ``data_root`` in which everything lies."""

    def __init__(
        self,
        name: str,
        split: str,
        background: bool,
        data_root: str | None = None,
        calibration_images: int = 100,
        captions: str | None = None,
    ) -> None:
        self.name = name
        self.split = split
        self.root = Path(data_root or f"data/{name}").expanduser() / self.below
        known = (*self.official, CALIBRATION)
        if split not in known:
            raise unknown_split(name, split, known)
        layout = self._layout("train" if split == CALIBRATION else split)
        first = 0 if background else 1
        self.background = 0 if background else None
        self.classes = tuple(layout.classes[first:])
        self.palette = tuple(layout.palette[first:])
        self.table = layout.table if background else layout.table.without_background()
        self.entries = tuple(layout.entries)
        self._prepare = layout.prepare
        self.expected_images = (calibration_images,) if split == CALIBRATION else self.official[split]
        self._masks = layout.masks if split != CALIBRATION else None
        if split == CALIBRATION:
            self.entries = evenly_spaced(self.entries, calibration_images)
        if not self.entries:
            raise UserError(f"{name} {split} has no image", DOCUMENTATION)
        self._repeated = _repeated(self.ids)
        found = {} if captions is None else read_captions(Path(captions).expanduser())
        self._captions = {id: found[id] for id in self.ids if id in found}

    @abstractmethod
    def _layout(self, split: str) -> Layout:
        """The files of an official split. Raises UserError naming what is missing."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.entries)

    @property
    def choices(self) -> dict[str, Any]:
        return {"background": self.background is not None, "captions": captions_digest(self._captions)}

    def caption_of(self, id: str) -> str | None:
        return self._captions.get(id)

    @property
    def orphans(self) -> tuple[Entry, ...]:
        """Masks in the split's folder whose image is not there."""
        if self._masks is None:
            return ()
        images = {entry.image for entry in self.entries}
        return tuple(entry for entry in self._masks.entries() if entry.image not in images)

    @property
    def repeats(self) -> dict[int, FileError]:
        """By index: what to say of an entry whose id came before."""
        return {index: self._repeat(index) for index in self._repeated}

    def _repeat(self, index: int) -> FileError:
        what = f"{self.name} {self.split} lists {self.entries[index].id} twice"
        return FileError("duplicate id", what, "list it once")

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        if index in self._repeated:
            raise self._repeat(index)
        image = read_image(entry.image)
        try:
            label = read_ids(entry.label, image.size, self.table)
        except FileError as error:
            if self._prepare is None:
                raise
            # A prepared mask is made again, not replaced.
            first = "" if error.kind == "missing file" else "remove it and "
            raise FileError(error.kind, error.problem, f"{first}make it with: {self._prepare}") from error
        return Sample(entry.id, image, label, self.caption_of(entry.id), self.present_of(entry))

    def present_of(self, entry: Entry) -> tuple[int, ...] | None:
        """Classes that annotations beside the mask name; None where there are none."""
        return None


def _repeated(ids: Sequence[str]) -> frozenset[int]:
    """Indices at which an id comes for the second time or later."""
    first: dict[str, int] = {}
    return frozenset(index for index, id in enumerate(ids) if first.setdefault(id, index) != index)


def evenly_spaced(entries: Sequence[Entry], count: int) -> tuple[Entry, ...]:
    """``count`` of the entries sorted by id, all where there are fewer."""
    ordered = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: entry.id)
    count = min(count, len(ordered))
    return tuple(ordered[index * len(ordered) // count] for index in range(count))


def need(path: Path, hint: str) -> None:
    """Raises UserError with ``hint`` where there is no ``path``."""
    if not path.exists():
        raise UserError(f"there is no {path}", f"{hint}; {DOCUMENTATION}")


def need_list(path: Path, hint: str) -> None:
    """A list file that exists and lists something."""
    need(path, hint)
    if not path.read_text().strip():
        raise UserError(f"{path} lists no image", "replace the file from the original dataset")


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
    found = [(Path(entry["img_path"]), Path(entry["seg_map_path"])) for entry in source.load_data_list()]
    # A blank line of a list names no image.
    return [Entry(image.stem, image, label) for image, label in found if image.name != source.img_suffix]


def prepare_command(name: str, root: Path) -> str:
    return f"segscale data prepare {name} --data-root {root}"
