"""Whether stored runs agree with the images, labels and weights that are there now."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segscale.errors import UserError
from segscale.places import place
from segscale.registry import build

from ...backbones.loading.options import LoadOptions
from ...datasets.dataset import Dataset, Digests, first_places
from ...datasets.files import FileError
from ..tasks.identity import DatasetIdentity
from ..tasks.task import Task, dataset_identity
from .identity import BackboneIdentity
from .options import RunOptions
from .plan import build_task, plan_backbone
from .record import Sources, StoredRun
from .store import RunStore, find_runs

SAMPLED_IMAGES = 8
"""Of a stored run are compared before it goes on."""


def task_on_disk(run: StoredRun, data_root: str | None = None) -> Task:
    """The task of a stored run, by the data and configs that are there now.

    Args:
        run: The stored run.
        data_root: Folder of the dataset, where it is not the one that the run was made from.

    Raises:
        UserError: The data is not to be found.
    """
    task, captions = run.plan.task, run.sources.captions
    options = RunOptions(
        split=task.dataset.split,
        data_root=data_root or run.sources.data_root,
        captions=None if captions is None else Path(captions),
    )
    return build_task(task.dataset.name, build("protocol", task.protocol.name), options)


class DataOnDisk:
    """The samples of a dataset, each read once to be compared with what stored numbers were made of."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._indices = first_places(dataset.ids)
        self._read: dict[str, Digests | str] = {}

    def changes(self, stored: Mapping[str, Digests]) -> dict[str, str]:
        """How images differ from what they were, by image; those that agree are left out."""
        differences = {image: self._change(image, digests) for image, digests in sorted(stored.items())}
        return {image: change for image, change in differences.items() if change is not None}

    def _change(self, image: str, stored: Digests) -> str | None:
        if image not in self._read:
            self._read[image] = self._digests(image)
        now = self._read[image]
        if isinstance(now, str):
            return now
        changed = [f"the {kind}" for kind in ("image", "label") if getattr(now, kind) != getattr(stored, kind)]
        return f"{' and '.join(changed)} changed" if changed else None

    def _digests(self, image: str) -> Digests | str:
        """What an image and its label are now, or why they cannot be told."""
        if image not in self._indices:
            return "the dataset has no such image"
        try:
            return self.dataset[self._indices[image]].digests
        except UserError as error:
            return error.problem


def refuse_changed(store: RunStore, disk: DataOnDisk) -> None:
    """Compare some stored images, evenly spread. Raises UserError where one changed since it was computed."""
    stored = store.made_of()
    images, count = sorted(stored), min(SAMPLED_IMAGES, len(stored))
    chosen = {image: stored[image] for image in (images[place * len(images) // count] for place in range(count))}
    changes = disk.changes(chosen)
    if changes:
        image, change = next(iter(changes.items()))
        problem = f"{len(changes)} of {count} stored images that were compared are not what they were"
        hint = (
            f"see all with: segscale verify {shlex.quote(str(store.folder))}, and compute anew with another --results"
        )
        raise UserError(f"{problem} ({image}: {change})", hint)


@dataclass(frozen=True)
class Verification:
    """What verifying one run showed."""

    images: int
    """Stored ones."""
    compared: int
    """Of these, how many were compared: none where the data is not to be found."""
    changes: Mapping[str, str]
    """By image."""
    problems: tuple[str, ...]
    """What disagrees beside images."""
    not_compared: tuple[str, ...]
    """What is not on this machine."""

    @property
    def agrees(self) -> bool:
        """Whether nothing is known to have changed."""
        return not self.changes and not self.problems


class Verifier:
    """Compares runs with what is on disk; runs on the same data share the reading."""

    def __init__(self, data_root: str | None = None) -> None:
        """``data_root`` is the folder of the dataset, where it is not the one that a run was made from."""
        self._data_root = data_root
        self._disks: dict[tuple[str, str, Sources], DataOnDisk] = {}

    def verify(self, store: RunStore) -> Verification:
        """Compare all stored images of a run, and its weights. Raises StoreError for one that cannot be read."""
        run, stored = store.read(), store.made_of()
        problems, not_compared = list[str](), list[str]()
        if missing := store.missing(run.wanted):
            problems.append(f"{missing} of {run.wanted} images are not stored")
        changes: Mapping[str, str] = {}
        compared = 0
        try:
            disk = self._disk(run)
            problems.extend(_dataset_problems(run.plan.task.dataset, dataset_identity(disk.dataset)))
            changes = disk.changes(stored)
            compared = len(stored)
        except UserError as error:
            if _is_absent(error):
                not_compared.append(f"images ({error})")
            else:
                problems.append(str(error))
        try:
            problems.extend(_weights_problems(run.plan.backbone, _weights_now(run)))
        except UserError as error:
            not_compared.append(f"weights ({error.problem})")
        if run.plan.backbone.lora is not None and run.sources.lora is None:
            not_compared.append("the LoRA, whose folder is not known")
        return Verification(len(stored), compared, changes, tuple(problems), tuple(not_compared))

    def _disk(self, run: StoredRun) -> DataOnDisk:
        task = run.plan.task
        key = (repr(task.dataset), task.protocol.name, run.sources)
        if key not in self._disks:
            self._disks[key] = DataOnDisk(task_on_disk(run, self._data_root).dataset)
        return self._disks[key]


def _dataset_problems(stored: DatasetIdentity, now: DatasetIdentity) -> Iterator[str]:
    if stored.images != now.images:
        yield f"{stored.name} {stored.split} has other images than the run was asked about"
    for name in sorted(stored.options.keys() | now.options.keys()):
        if stored.options.get(name) != now.options.get(name):
            yield f"{stored.name} is read with another {name}: {now.options.get(name)}, not {stored.options.get(name)}"


def _weights_now(run: StoredRun) -> BackboneIdentity:
    """The backbone that the same command would load, by what is on this machine."""
    sources = run.sources
    load = LoadOptions(revision=sources.revision, variant=run.plan.backbone.variant, offline=True, lora=sources.lora)
    return plan_backbone(run.plan.backbone.name, RunOptions(weights=sources.weights, load=load)).identity


def _is_absent(error: UserError) -> bool:
    """Whether data are not on this machine, rather than damaged there."""
    return not isinstance(error, FileError) or error.kind in ("missing file", "wrong case")


def _weights_problems(stored: BackboneIdentity, now: BackboneIdentity) -> Iterator[str]:
    key = "denoiser_weights"
    for name, was, current in (
        ("weights", stored.weights, now.weights),
        ("denoiser weights", stored.options.get(key), now.options.get(key)),
    ):
        if was != current:
            yield f"the {name} are {current}, not {was}"
    if now.lora is not None and now.lora != stored.lora:
        yield f"the LoRA is {now.lora}, not {stored.lora}"


def named_runs(results: Path, names: Sequence[str]) -> list[RunStore]:
    """Runs by the beginning of their id or by a folder that holds them; all below ``results`` where none is named."""
    if not names:
        return find_runs(results)
    return list({store.folder: store for name in names for store in _named(results, name)}.values())


def _named(results: Path, name: str) -> list[RunStore]:
    if (folder := place(name)).is_dir():
        stores = [RunStore(found) for found in sorted(path.parent for path in folder.rglob("parts"))]
    else:
        stores = [store for store in find_runs(results) if store.folder.name.startswith(name)]
    if not stores:
        hint = f"name a folder of {results}/runs or the beginning of a run's id, which is its last folder"
        raise UserError(f"there is no run {name!r}", hint)
    return stores
