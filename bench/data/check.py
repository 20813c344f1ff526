"""Checks every file of a dataset's split in one pass and says what is wrong with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from segscale.errors import UserError

from ...datasets.dataset import Dataset
from ...datasets.files import FileError, missing_file, names_in, read_ids, read_image
from ...datasets.folder import Entry, FolderDataset
from ...datasets.labels import LabelTable
from .parallel import in_processes


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. id: of the image; kind: such as ``missing mask``; what: a line that names the file."""

    id: str
    kind: str
    what: str


@dataclass(frozen=True)
class Report:
    """What a check found. expected: how many images the official split has, empty where nothing is official."""

    title: str
    images: int
    expected: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        return not self.findings and (not self.expected or self.images in self.expected)

    @property
    def summary(self) -> str:
        count = f"{self.title}: {self.images} images"
        if self.expected:
            agrees = "as many as the" if self.images in self.expected else "but not the"
            count += f", {agrees} {' or '.join(map(str, self.expected))} of the official split"
        kinds = Counter(finding.kind for finding in self.findings)
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        return f"{count}; faults: {len(self.findings)}{f' ({listed})' if listed else ''}"


@dataclass(frozen=True)
class _Present:
    """An entry of which at least one file is there; the others are None."""

    id: str
    image: Path | None
    label: Path | None


def check(dataset: Dataset, workers: int) -> Report:
    """Reads everything. The report does not depend on the number of workers."""
    title = f"{dataset.name} {dataset.split}"
    if isinstance(dataset, FolderDataset):
        return Report(title, len(dataset), dataset.expected_images, tuple(_check_folder(dataset, workers, title)))
    return Report(title, len(dataset), (), tuple(_check_samples(dataset, title)))


def _check_folder(dataset: FolderDataset, workers: int, title: str) -> Iterator[Finding]:
    entries = [*dataset.entries, *dataset.orphans]
    repeats = dataset.repeats
    found: list[list[Finding]] = []
    present: list[_Present] = []
    names: dict[Path, frozenset[str]] = {}
    for index, entry in enumerate(entries):
        if index in repeats:
            found.append([_finding(entry.id, "list", repeats[index])])
            present.append(_Present(entry.id, None, None))
            continue
        for folder in {entry.image.parent, entry.label.parent} - names.keys():
            names[folder] = names_in(folder)
        lost = _missing(entry, names)
        found.append([_finding(entry.id, part, error) for part, error in lost.items()])
        image = None if "image" in lost else entry.image
        present.append(_Present(entry.id, image, None if "mask" in lost else entry.label))
    damage = in_processes(partial(_damage, table=dataset.table), present, workers, f"checking {title}")
    for missing, damaged in zip(found, damage, strict=True):
        yield from missing
        yield from damaged


def _missing(entry: Entry, names: dict[Path, frozenset[str]]) -> dict[str, FileError]:
    """By part: files that are not there under their very name, also where the file system ignores case."""
    parts = {"image": entry.image, "mask": entry.label}
    return {
        part: missing_file(path, names[path.parent])
        for part, path in parts.items()
        if path.name not in names[path.parent]
    }


def _damage(present: _Present, table: LabelTable) -> list[Finding]:
    """What is wrong with the files that are there."""
    findings: list[Finding] = []
    size = None
    if present.image is not None:
        try:
            size = read_image(present.image).size
        except FileError as error:
            findings.append(_finding(present.id, "image", error))
    if present.label is not None:
        try:
            read_ids(present.label, size, table)
        except FileError as error:
            findings.append(_finding(present.id, "mask", error))
    return findings


def _finding(id: str, part: str, error: FileError) -> Finding:
    return Finding(id, error.kind.replace("file", part), error.problem)


def _check_samples(dataset: Dataset, title: str) -> Iterator[Finding]:
    """For a dataset that does not say where its files are: every sample is made once."""
    for index, id in enumerate(tqdm(dataset.ids, desc=f"checking {title}", unit="image")):
        try:
            dataset[index]
        except UserError as error:
            yield Finding(id, "unusable", str(error))
