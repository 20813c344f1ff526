"""Makes the files that a dataset derives from its official annotations, in parallel; goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segscale.files import explained_writes
from segscale.registry import DATASETS, load_config

from ...datasets.dataset import Dataset
from ...datasets.files import FileError
from ...datasets.prepare import Derivation
from .parallel import in_processes


@dataclass(frozen=True)
class Prepared:
    """folders: where files were made or are; made, kept: number of files; faults: a line per unusable source."""

    folders: tuple[Path, ...]
    made: int
    kept: int
    faults: tuple[str, ...]


def prepare(name: str, data_root: str | None, workers: int) -> Prepared:
    """Makes what is not there yet. Raises UserError where the official annotation is missing."""
    config = load_config("dataset", name, imports=True)
    root = Path(data_root or config.get("data_root") or f"data/{name}").expanduser()
    dataset_class: type[Dataset] | None = DATASETS.get(config["type"])
    files = [] if dataset_class is None else list(dataset_class.derivations(root))
    todo = [one for one in files if not one.target.exists()]
    faults = [fault for fault in in_processes(_make, todo, workers, f"preparing {name}") if fault is not None]
    folders = tuple(sorted({one.target.parent for one in files}))
    for leftover in (path for folder in folders for path in folder.glob(".*.tmp")):
        leftover.unlink(missing_ok=True)
    return Prepared(folders, len(todo) - len(faults), len(files) - len(todo), tuple(faults))


def _make(one: Derivation) -> str | None:
    """None, or what is wrong with the source."""
    try:
        with explained_writes(one.target.parent, "--data-root"):
            one.make()
    except FileError as error:
        return error.problem
    return None
