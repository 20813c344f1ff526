"""What a run is: everything that can change one of its numbers, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

IDENTITY_LENGTH = 12


@dataclass(frozen=True)
class Plan:
    """A resolved run. The parts are plain JSON values.

    backbone: config, weights fingerprint, dtype. method: its parameters. dataset: config and split.
    protocol: its rules. seed: of the noise. version: of Segscale.
    """

    backbone: dict[str, Any]
    method: dict[str, Any]
    dataset: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    version: str

    @property
    def identity(self) -> str:
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:IDENTITY_LENGTH]


def plain(value: Any) -> Any:
    """``value`` with tuples as lists, as JSON will give it back."""
    return json.loads(json.dumps(value))
