"""Makes the files that a dataset derives from its official annotations, in parallel; goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segscale.files import explained_writes, remove_leftovers
from segscale.registry import DATASETS, load_config

from ...datasets.dataset import Dataset
from ...datasets.files import FileError
from ...datasets.prepare import Derivation
from .parallel import map_in_processes


@dataclass(frozen=True)
class Prepared:
    """What a preparation made."""

    dataset_name: str
    folders: tuple[Path, ...]
    """Folders in which files were made now."""
    made: int
    """Number of files made now."""
    kept: int
    """Number of files that were there already."""
    faults: tuple[str, ...]
    """A line for every unusable source."""

    @property
    def summary(self) -> str:
        """The number of files, as one line."""
        if not self.made + self.kept + len(self.faults):
            return f"{self.dataset_name} reads its official files; nothing is prepared"
        failed = f", {len(self.faults)} failed" if self.faults else ""
        return f"{self.dataset_name}: {self.made} files made, {self.kept} were there{failed}"


def prepare(dataset_name: str, data_root: str | None, workers: int) -> Prepared:
    """Make the files that are not there yet. Raises UserError where the official annotation is missing."""
    config = load_config("dataset", dataset_name, imports=True)
    root = Path(data_root or config.get("data_root") or f"data/{dataset_name}").expanduser()
    dataset_class: type[Dataset] | None = DATASETS.get(config["type"])
    derivations = [] if dataset_class is None else list(dataset_class.derivations(root))
    pending = [derivation for derivation in derivations if not derivation.target.exists()]
    outcomes = [*map_in_processes(_make, pending, workers, f"preparing {dataset_name}")]
    faults = tuple(fault for fault in outcomes if fault is not None)
    made = [derivation for derivation, fault in zip(pending, outcomes, strict=True) if fault is None]
    written = {derivation.target.parent for derivation in derivations}
    remove_leftovers(path for folder in written for path in folder.glob(".*.tmp"))
    folders = tuple(sorted({derivation.target.parent for derivation in made}))
    return Prepared(dataset_name, folders, len(made), len(derivations) - len(pending), faults)


def _make(derivation: Derivation) -> str | None:
    """None, or what is wrong with the source."""
    try:
        with explained_writes(derivation.target.parent, "--data-root"):
            derivation.make()
    except FileError as error:
        return error.problem
    return None
