"""How many images of a job are stored."""

from __future__ import annotations

from pathlib import Path

from ..runs.store import RunStore
from .record import JobRecord


def stored_images(results: Path, job: JobRecord) -> int:
    """How many images of all cells are stored; of each cell at most as many count as it wants."""
    stores = [RunStore(results / cell.run) for cell in job.cells if cell.run]
    return sum(min(store.count(wanted=job.images), job.images) for store in stores)
