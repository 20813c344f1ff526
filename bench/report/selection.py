"""What a reader asks for: which stored runs, and in which format. Commands import it before anything heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from segscale.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from .evaluated import EvaluatedRun, Evaluation

TableFormat = Literal["github", "csv", "json", "latex"]
ImageFormat = Literal["png", "svg"]
Wanted = tuple[str, ...] | None


@dataclass(frozen=True)
class RunSelection:
    """Names of which a run must have one of each kind; without names of a kind any run has it.

    A name is that of a config, or what tables show: ``pocket-sd15`` is also "pocket-sd15 (untrained)", not vice versa.
    """

    dataset_names: Wanted = None
    protocol_names: Wanted = None
    backbone_names: Wanted = None
    method_names: Wanted = None

    @property
    def names_any(self) -> bool:
        """Whether some runs may be left out."""
        return any(getattr(self, field.name) for field in fields(self))

    def of(self, evaluation: Evaluation) -> Evaluation:
        """The runs that are meant. Raises UserError for a name that no run has, or where no run has all."""
        if not self.names_any:
            return evaluation
        self._refuse_unknown(evaluation.runs)
        chosen = [run for run in evaluation.runs if all(_has_one(wanted, names) for wanted, names in self._pairs(run))]
        if not chosen:
            raise UserError("no stored run has all of these names", "see what is stored: segscale table")
        return replace(evaluation, runs=chosen)

    def of_table(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a stored table that are meant; a name stands before what tables add to it."""
        kept = table
        for column in ("dataset", "protocol", "backbone", "method"):
            if (names := getattr(self, f"{column}_names")) is not None:
                plain = kept[column].str.split(r"[ @]", n=1, regex=True).str[0]
                kept = kept.loc[kept[column].isin(names) | plain.isin(names)]
        return kept

    def _pairs(self, run: EvaluatedRun) -> list[tuple[Wanted, tuple[str, ...]]]:
        """By kind, what is wanted and what the run is called."""
        task, backbone, method = run.plan.task, run.plan.backbone, run.plan.method
        return [
            (self.dataset_names, (task.dataset.name,)),
            (self.protocol_names, (task.protocol.name, task.protocol.label)),
            (self.backbone_names, (backbone.name, backbone.label)),
            (self.method_names, (method.name, method.label)),
        ]

    def _refuse_unknown(self, runs: Sequence[EvaluatedRun]) -> None:
        for kinds in zip(*map(self._pairs, runs), strict=True):
            known = dict.fromkeys(name for _, names in kinds for name in names)
            for name in kinds[0][0] or ():
                if name not in known:
                    raise UserError(f"no stored run has {name!r}", did_you_mean(name, known))


def _has_one(wanted: Wanted, names: Sequence[str]) -> bool:
    return not wanted or any(name in wanted for name in names)
