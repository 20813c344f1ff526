"""How long a forward of a backbone takes, by the runs of it that are stored."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from segscale.errors import StoreError

from ..runs.conditions import read_conditions
from ..runs.identity import BackboneIdentity
from ..runs.store import RunStore

LOOKED_AT = 20
"""Runs of one backbone at most: each is read whole."""


class Paces:
    """Seconds per forward, each backbone looked up once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._known: dict[tuple[str, str, str | None], float | None] = {}

    def seconds_per_forward(self, backbone: BackboneIdentity) -> float | None:
        """Median over stored runs of this backbone in this precision; None where there is none."""
        key = (backbone.name, backbone.dtype, backbone.quantize)
        if key not in self._known:
            self._known[key] = self._look(backbone)
        return self._known[key]

    def _look(self, backbone: BackboneIdentity) -> float | None:
        rates: list[float] = []
        for path in sorted((self.results / "runs" / backbone.name).glob("*/*/*/run.json"))[:LOOKED_AT]:
            store = RunStore(path.parent)
            try:
                run = store.read()
                stored = run.plan.backbone
                if (stored.dtype, stored.quantize) != (backbone.dtype, backbone.quantize):
                    continue
                counts = store.load(run)
            except StoreError:
                continue
            together = [len(conditions.shared_by) for conditions in read_conditions(store.folder)]
            if together and counts.forwards_together.any():
                # A forward's time is divided among the methods that shared it.
                rates.append(float(counts.seconds.sum() * median(together) / counts.forwards_together.sum()))
        return median(rates) if rates else None
