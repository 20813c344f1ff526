"""Referring segmentation: an image, an expression, and the mask of what it means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from segscale.prompt import BACKGROUND

from .folder import Entry, FolderDataset, Layout, prepare_command
from .labels import LabelTable, colour_map

TARGET = "target"
TARGET_ID = 1
CLASSES = (BACKGROUND, TARGET)
PALETTE = colour_map(len(CLASSES))


@dataclass(frozen=True)
class Referred:
    """One sample: the files, and the expression."""

    entry: Entry
    expression: str


class ReferringFolder(FolderDataset):
    """Images, expressions and prepared masks on disk; every expression is a sample."""

    expressions = True

    def __init__(self, **arguments: Any) -> None:
        """Find the samples of the split; arguments are those of FolderDataset."""
        self._expressions: dict[str, str] = {}
        super().__init__(**arguments)
        self._captions = {**{id: self._expressions[id] for id in self.ids}, **self._captions}

    @abstractmethod
    def referred(self, split: str) -> Iterable[Referred]:
        """The samples of an official split. Raises UserError for what is missing."""

    def layout(self, split: str) -> Layout:
        samples = [*self.referred(split)]
        self._expressions = {sample.entry.id: sample.expression for sample in samples}
        entries = [sample.entry for sample in samples]
        table = LabelTable.consecutive(len(CLASSES))
        return Layout(CLASSES, PALETTE, table, entries, prepare=prepare_command(self.name, self.root))

    def present_of(self, entry: Entry) -> tuple[int, ...]:
        return (TARGET_ID,)
