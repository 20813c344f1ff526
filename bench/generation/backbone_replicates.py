"""A bootstrap over images and prompts: the numbers of every backbone, and what they must share to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import pandas as pd

from segscale.errors import UserError

from ...backbones.pocket.ladder import family_of
from ..evaluation.metrics import Floats

Drawn = Literal["images", "prompts", "seeds", "rungs"]
FROM_PAPERS = "published"


def random_stream(drawn: Drawn) -> np.random.SeedSequence:
    """The random numbers by which images, prompts, seeds or rungs are drawn; they are the same in every bootstrap."""
    images, prompts, seeds, rungs = np.random.SeedSequence(0).spawn(4)
    return {"images": images, "prompts": prompts, "seeds": seeds, "rungs": rungs}[drawn]


@dataclass(frozen=True)
class Conditions:
    """What all backbones share. Then replicate 7 of each has the same images and prompts."""

    dataset: str
    split: str
    protocol: str
    seed: int
    """Of the runs' noise."""
    task: str
    """Digest of all of dataset and protocol that changes a count, and which classes are averaged."""
    thresholds: str
    """That of every method, or that each run is read at its best one."""
    images: str
    """Number of those that all backbones have, and a digest of their ids."""
    captions: str
    """Those of the pictures, and their noise; ``FROM_PAPERS`` where papers give the power."""
    pictures: str
    """Number of those that all backbones have, and a digest of their ids."""
    measured_by: str
    """Networks that looked at the pictures, with their digests."""
    replicates: int

    @property
    def is_published(self) -> bool:
        """Whether papers give the power."""
        return self.captions == FROM_PAPERS

    def difference(self, other: Conditions) -> str | None:
        """The first thing in which they differ, as text; None where they are equal."""
        for field in fields(self):
            own, others = (str(getattr(each, field.name)) for each in (self, other))
            if own != others:
                return f"{field.name} ({own or 'none'} and {others or 'none'})"
        return None


@dataclass(frozen=True, eq=False)
class BackboneReplicates:
    """Numbers of one backbone: first of the sample itself, then of each replicate."""

    name: str
    parameters: int
    """Of the denoiser."""
    row: Mapping[str, object]
    """Of the table of backbones, by column."""
    miou: Mapping[str, Floats]
    """By method, ``(1 + replicates,)``, in percent."""
    power: Mapping[str, Floats]
    """By measure, ``(1 + replicates,)``; shares in percent."""


@dataclass(frozen=True)
class Resampled:
    """Backbones that can be compared, in order of family and name."""

    conditions: Conditions
    backbones: tuple[BackboneReplicates, ...]

    @property
    def table(self) -> pd.DataFrame:
        """A row per backbone: what it is, its power, the mIoU of every method in percent, ends of 95 % intervals."""
        table = pd.DataFrame([backbone.row for backbone in self.backbones])
        return table.astype({"steps": float, "seed": float}).astype({"steps": "Int64", "seed": "Int64"})

    @property
    def method_names(self) -> tuple[str, ...]:
        """All have a run of each."""
        return tuple(self.backbones[0].miou)

    def with_methods_in_order(self, method_names: Sequence[str]) -> Resampled:
        """The same with methods in another order: of several the first is what the others are compared with."""
        ordered = [replace(each, miou={name: each.miou[name] for name in method_names}) for each in self.backbones]
        return replace(self, backbones=tuple(ordered))

    def joined(self, earlier: Resampled) -> Resampled:
        """Add the backbones of ``earlier`` that are not among these.

        Raises:
            UserError: Where their conditions or methods differ.
        """
        difference = self.conditions.difference(earlier.conditions)
        if difference is None and {*self.method_names} != {*earlier.method_names}:
            difference = f"methods ({', '.join(self.method_names)} and {', '.join(earlier.method_names)})"
        if difference is not None:
            raise UserError(f"runs here and earlier tables differ in {difference}", "give another --earlier, or none")
        names = {backbone.name for backbone in self.backbones}
        both = [*self.backbones, *(each for each in earlier.backbones if each.name not in names)]
        return Resampled(self.conditions, tuple(sorted(both, key=lambda each: (family_of(each.name), each.name))))
