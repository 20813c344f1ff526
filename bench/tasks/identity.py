"""What of a task is in a run's identity: everything about data and rules that can change a stored count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from ..evaluation.metrics import Averaging


@dataclass(frozen=True)
class DatasetIdentity:
    """The images that are evaluated, and how their labels are read."""

    name: str
    benchmark: str
    """What protocols know the data by, see ``Dataset.benchmark``."""
    split: str
    images: str
    """SHA-256 of the ids, in order."""
    options: dict[str, JsonValue]
    """What else decides samples, see ``Dataset.identity_options``."""

    @property
    def captions(self) -> str | None:
        """Digest of the captions of the split, None where it has none."""
        digest = self.options.get("captions")
        return None if digest is None else str(digest)


@dataclass(frozen=True)
class ProtocolIdentity:
    """The rules that change a stored count."""

    name: str
    variant: str
    full_vocabulary: bool
    thresholds: tuple[float, ...]
    class_names: str
    """SHA-256 of the names that are prompted."""
    rules: dict[str, JsonValue]
    """All other fields of the protocol."""

    @property
    def asks_expressions(self) -> bool:
        """Whether it is one of referring segmentation."""
        return str(self.rules.get("prompt", "")).startswith("expression")

    @property
    def label(self) -> str:
        """Name and variant, as tables show them."""
        return f"{self.name}{self.variant}"


@dataclass(frozen=True)
class TaskIdentity:
    """A protocol applied to a dataset."""

    dataset: DatasetIdentity
    protocol: ProtocolIdentity

    @property
    def columns(self) -> dict[str, str]:
        """The names that tables show, by column."""
        return {"dataset": self.dataset.name, "split": self.dataset.split, "protocol": self.protocol.label}


@dataclass(frozen=True)
class TableRules:
    """How tables read the stored counts. It changes none of them, so it is no part of the identity."""

    threshold: float | str
    """A stored one, or ``best``."""
    averaging: Averaging
    oracle_protocol: str | None


def plain_data(values: Mapping[str, object]) -> dict[str, JsonValue]:
    """``values`` with tuples as lists, as JSON gives them back."""
    return json.loads(json.dumps(dict(values)))
