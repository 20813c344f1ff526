"""How many images of a job are stored."""

from __future__ import annotations

from pathlib import Path

from ..runs.store import RunStore
from .record import JobRecord


def stored_images(results: Path, job: JobRecord) -> int:
    """Of all cells together, each at most as many as it wants."""
    stores = [RunStore(results / cell.run) for cell in job.cells if cell.run]
    return sum(min(store.count(), job.images) for store in stores)
