"""Under which conditions images of a run were computed: what changes no identity, but can change a last bit.

Every process writes what holds for it into a file that its contents name. So equal conditions are one file, whatever
the number of processes, and none replaces another's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from segscale.files import explained_writes, replaced

from .identity import IDENTITY_LENGTH
from .record import Machine

log = logging.getLogger(__name__)

PACKAGES = ("torch", "diffusers", "transformers", "mmsegmentation", "numpy")


@dataclass(frozen=True)
class Conditions:
    """What one process computed images on, and what shared their forwards."""

    machine: Machine
    device: str
    """Of torch, such as ``cpu`` or ``cuda:1``."""
    threads: int
    """Of torch, within one operation."""
    shared_by: tuple[str, ...]
    """Methods that read the same images together; their sites are observed in each other's forwards."""
    batch: int = 1
    """Rows that shared a forward of the denoiser at most; fewer than asked for where memory ran out."""
    chunk_share: float = 1.0
    """Of the usual memory of a chunk of attention; less than 1 where memory ran out for a single row."""


_ADAPTER = TypeAdapter(Conditions)


def machine() -> Machine:
    """This machine and what is installed on it."""
    packages = {name: version(name) for name in PACKAGES}
    return Machine(platform.platform(), platform.machine(), os.cpu_count() or 1, packages)


def note_conditions(folder: Path, conditions: Conditions) -> None:
    """Keep ``conditions`` in the folder of a run, where they are not there already."""
    content = _ADAPTER.dump_json(conditions, indent=2)
    path = folder / f"conditions-{hashlib.sha256(content).hexdigest()[:IDENTITY_LENGTH]}.json"
    if not path.exists():
        with explained_writes(folder), replaced(path) as file:
            file.write(content.decode() + "\n")


def read_conditions(folder: Path) -> list[Conditions]:
    """Every set of conditions under which images of the run were computed, in a stable order.

    A file that cannot be read is named and passed over: no number depends on it.
    """
    found = map(_read, sorted(folder.glob("conditions-*.json")))
    return [conditions for conditions in found if conditions is not None]


def _read(path: Path) -> Conditions | None:
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        log.warning("%s cannot be read; it would say on what images of this run were computed", path)
        return None
