"""Reads every file of a dataset's split in one pass and says what is wrong with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from segscale.catalogue import documentation
from segscale.errors import UserError

from ...datasets.dataset import Dataset, check_dataset
from ...datasets.files import FileError, missing_file, names_in, read_ids, read_image
from ...datasets.folder import Entry, FolderDataset
from ...datasets.labels import IGNORE_LABEL, LabelTable, values_in
from .parallel import map_in_processes


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an image or its mask."""

    id: str
    kind: str
    """Such as ``missing mask``."""
    what: str
    """A line that names the file."""


@dataclass(frozen=True)
class Report:
    """The result of a check."""

    title: str
    images: int
    expected: tuple[int, ...]
    """How many images the official split has; empty where nothing is official or a subset is meant."""
    findings: tuple[Finding, ...]

    @property
    def complete(self) -> bool:
        """True where no image of the official split is lacking."""
        return not self.expected or self.images in self.expected

    @property
    def good(self) -> bool:
        """True where nothing is wrong or lacking."""
        return not self.findings and self.complete

    @property
    def summary(self) -> str:
        """Number of images and of faults by kind, as one line."""
        images = f"{self.title}: {self.images} images"
        if self.expected:
            agrees = "as many as the" if self.complete else "but not the"
            images += f", {agrees} {' or '.join(map(str, self.expected))} of the official split"
        kinds = Counter(finding.kind for finding in self.findings)
        numbers = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        return f"{images}; faults: {len(self.findings)}{f' ({numbers})' if numbers else ''}"

    @property
    def hint(self) -> str:
        """What to do where the report is not good."""
        official = f"{documentation('datasets.md')} says where the files come from"
        return official if self.findings else f"{official}; for a part of the split on purpose: --subset"


@dataclass(frozen=True)
class _Files:
    """The files of an entry that are there; the others are None."""

    id: str
    image: Path | None
    label: Path | None


def check(dataset: Dataset, workers: int, subset: bool = False) -> Report:
    """Read everything. The report does not depend on the number of workers.

    Args:
        dataset: The split to check.
        workers: Number of processes.
        subset: True where fewer images than the official split has are meant.

    Raises:
        UserError: The dataset contradicts itself.
    """
    check_dataset(dataset)
    title = f"{dataset.name} {dataset.split}"
    expected = () if subset else dataset.expected_images
    if isinstance(dataset, FolderDataset):
        return Report(title, len(dataset), expected, tuple(_check_folder(dataset, workers, title)))
    return Report(title, len(dataset), expected, tuple(_check_samples(dataset, title)))


def _check_folder(dataset: FolderDataset, workers: int, title: str) -> Iterator[Finding]:
    duplicates = dataset.duplicate_ids
    missing: list[list[Finding]] = []
    present: list[_Files] = []
    names: dict[Path, frozenset[str]] = {}
    for index, entry in enumerate([*dataset.entries, *dataset.masks_without_image]):
        if index in duplicates:
            missing.append([_finding(entry.id, "list", duplicates[index])])
            present.append(_Files(entry.id, None, None))
            continue
        for folder in {entry.image.parent, entry.label.parent} - names.keys():
            names[folder] = names_in(folder)
        errors = _missing(entry, names)
        missing.append([_finding(entry.id, part, error) for part, error in errors.items()])
        image = None if "image" in errors else entry.image
        present.append(_Files(entry.id, image, None if "mask" in errors else entry.label))
    look = partial(_look_at, table=dataset.table, as_shown=dataset.as_shown)
    looks = map_in_processes(look, present, workers, f"checking {title}")
    shown: set[int] = set()
    for absent, (damaged, ids) in zip(missing, looks, strict=True):
        yield from absent
        yield from damaged
        shown |= ids
    if shown and shown <= {dataset.background, IGNORE_LABEL}:
        white = f"; {IGNORE_LABEL} is ignored, and the first class is 1" if IGNORE_LABEL in shown else ""
        yield Finding("all masks", "no class", f"no mask shows a class{white}")


def _missing(entry: Entry, names: dict[Path, frozenset[str]]) -> dict[str, FileError]:
    """Files that are not there under their very name, also where the file system ignores case, by part."""
    parts = {"image": entry.image, "mask": entry.label}
    return {
        part: missing_file(path, names[path.parent])
        for part, path in parts.items()
        if path.name not in names[path.parent]
    }


def _look_at(files: _Files, table: LabelTable, as_shown: bool) -> tuple[list[Finding], frozenset[int]]:
    """What is wrong with the files that are there, and the class ids of the mask."""
    findings: list[Finding] = []
    ids: frozenset[int] = frozenset()
    size = None
    if files.image is not None:
        try:
            size = read_image(files.image, as_shown).size
        except FileError as error:
            findings.append(_finding(files.id, "image", error))
    if files.label is not None:
        try:
            ids = frozenset(values_in(read_ids(files.label, size, table)))
        except FileError as error:
            findings.append(_finding(files.id, "mask", error))
    return findings, ids


def _finding(id: str, part: str, error: FileError) -> Finding:
    return Finding(id, error.kind.replace("file", part), error.problem)


def _check_samples(dataset: Dataset, title: str) -> Iterator[Finding]:
    """For a dataset that does not say where its files are: every sample is made once."""
    for index, id in enumerate(tqdm(dataset.ids, desc=f"checking {title}", unit="image")):
        try:
            dataset[index]
        except UserError as error:
            yield Finding(id, "unusable", str(error))
