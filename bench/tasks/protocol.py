"""A protocol states what a number means: prompt, class oracle, background, threshold, ignore rule, averaging."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segscale.errors import UserError
from segscale.prompt import BACKGROUND
from segscale.registry import PROTOCOLS

from ...backbones.latents.images import shortest_edge_size
from ...datasets.dataset import IGNORE_LABEL, Dataset, Sample
from ..evaluation.clusters import MatchingUnit, resized_label
from ..evaluation.decision import AbsentRule, BackgroundRule, Decision, check_thresholds

Averaging = Literal["all", "in-ground-truth", "every-class"]
BEST = "best"
# Rules that change no stored area, and those of other datasets.
NOT_STORED = ("threshold", "averaging", "datasets", "listed_only", "label_orders")


@PROTOCOLS.register_module()
@dataclass(frozen=True)
class Protocol:
    """class_oracle: ``present``, the classes of the image are known, or ``all``, the full vocabulary is prompted.
    present_from: the image's ``label``, or the dataset's ``annotations`` of objects. prompted_edges: short and longest
    edge in pixels to which a label is resized before its classes are read; None for its own size.

    prompt: the dataset's ``caption`` where it has one, else class names; or always ``class-names``, followed by the
    word "background" where it competes; or ``joined-names``, names alone with a blank between them.
    names: whose class names, see ``datasets.names``; names_of: which of its lists, None for the dataset's own names.
    merged_labels: pairs of an id and the id that it becomes in every label.
    caption_background: append "background" to captions. add_missing: append classes that a caption leaves out.
    datasets: by dataset name, fields that differ there; its ``arguments`` go to the dataset's constructor.
    listed_only: other datasets are refused, because the paper says nothing of them.

    background_rule, thresholds, absent: as of ``Decision``; areas at all thresholds are stored. threshold: the one
    that a table reads, or ``best``: the best of the sweep on the very images evaluated, which tables mark.
    void: pixels labelled 255 are ``ignored``, or count as ``background``, which a dataset without such a class then
    gets. background_scored: whether pixels labelled background count; it can be predicted in any case.
    averaging: classes that enter the mean, see ``metrics.mean_iou``.

    matching: for methods whose maps are clusters without names: they are matched to classes per pixel ``row`` or per
    ``image`` and compared with the label at ``evaluated_edges``, short and longest edge in pixels. cropped: cluster
    maps at the image's own size are cut to that size first (published). label_orders: by dataset, ids in the order of
    the published label files, which decides between equal matchings; ids that it leaves out do not count; elsewhere
    they ascend.
    """

    name: str
    class_oracle: Literal["present", "all"]
    prompt: Literal["caption", "class-names", "joined-names"]
    background_rule: BackgroundRule
    thresholds: tuple[float, ...]
    threshold: float | Literal["best"]
    absent: AbsentRule
    void: Literal["ignored", "background"]
    background_scored: bool
    averaging: Averaging
    names: str = "standard"
    names_of: str | None = None
    caption_background: bool = False
    add_missing: bool = True
    present_from: Literal["label", "annotations"] = "label"
    prompted_edges: tuple[int, int] | None = None
    merged_labels: tuple[tuple[int, int], ...] = ()
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed_only: bool = False
    matching: MatchingUnit | None = None
    evaluated_edges: tuple[int, int] | None = None
    cropped: bool = True
    label_orders: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_thresholds(self.background_rule, self.thresholds)
        if self.threshold not in (*self.thresholds, BEST):
            raise ValueError(f"threshold {self.threshold} is none of {self.thresholds}")
        if self.class_oracle == "all" and self.prompt == "caption":
            raise ValueError("a full vocabulary is prompted by class names")
        if (self.matching is None) != (self.evaluated_edges is None):
            raise ValueError("matching and evaluated_edges go together")
        if self.matching is not None and self.background_rule != "none":
            raise ValueError("clusters without names have no background")

    @property
    def rules(self) -> dict[str, Any]:
        """What changes stored areas; threshold and averaging are chosen when a table is made."""
        return {key: value for key, value in asdict(self).items() if key not in NOT_STORED}

    def without_background(self) -> Protocol:
        """These rules for a dataset that has no background class: only classes compete."""
        return replace(self, background_rule="none", thresholds=(0.0,), threshold=0.0)

    def resolved(self, dataset: Dataset) -> Protocol:
        """These rules as they apply to ``dataset``."""
        special = {key: value for key, value in self.datasets.get(dataset.name, {}).items() if key != "arguments"}
        rules = replace(self, **special)
        return rules if rules.background_id(dataset) is not None else rules.without_background()

    def arguments_of(self, dataset: str) -> dict[str, Any]:
        """What these rules want of a dataset's constructor: its split, its view of the background."""
        if self.listed_only and dataset not in self.datasets:
            there = ", ".join(self.datasets)
            raise UserError(f"protocol {self.name} says nothing of {dataset}", f"it knows: {there}; or use standard")
        return dict(self.datasets.get(dataset, {}).get("arguments", {}))

    def background_id(self, dataset: Dataset) -> int | None:
        """Id of background in stored areas: the dataset's, or one more where void counts as background."""
        if dataset.background is None and self.void == "background":
            return len(dataset.classes)
        return dataset.background

    def class_names(self, dataset: Dataset) -> tuple[str, ...]:
        """Names in the order of stored areas."""
        added = self.background_id(dataset) == len(dataset.classes)
        return (*dataset.classes, BACKGROUND) if added else dataset.classes

    def decision(self, dataset: Dataset) -> Decision:
        """How scores become label maps. Only for rules resolved for ``dataset``."""
        background = None if self.background_rule == "none" else self.background_id(dataset)
        return Decision(len(self.class_names(dataset)), background, self.background_rule, self.thresholds, self.absent)

    def truth(self, label: NDArray[np.uint8], dataset: Dataset) -> NDArray[np.uint8]:
        """The label map that predictions are compared with."""
        label = self._merged(label)
        background = self.background_id(dataset)
        if self.void == "ignored" or background is None:
            return label
        return np.where(label == IGNORE_LABEL, np.uint8(background), label)

    def _merged(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        for id, becomes in self.merged_labels:
            label = np.where(label == id, np.uint8(becomes), label)
        return label

    def unscored(self, dataset: Dataset) -> frozenset[int]:
        """Labels whose pixels do not count."""
        background = self.background_id(dataset)
        return frozenset({IGNORE_LABEL} if self.background_scored or background is None else {IGNORE_LABEL, background})

    def present_classes(self, sample: Sample, dataset: Dataset) -> tuple[int, ...]:
        """Ids of the classes that take part, ascending; not ignored, and background only as a class like others."""
        ids: Iterable[int] = np.unique(self._prompted_label(sample.label))
        if self.present_from == "annotations":
            if sample.present is None:
                raise UserError(f"{dataset.name} has no annotations of what is present", "use another protocol")
            ids = sample.present
        vocabulary = self.vocabulary(dataset)
        return tuple(int(id) for id in ids if id in vocabulary)

    def vocabulary(self, dataset: Dataset) -> tuple[int, ...]:
        """Ids of all classes; background is one only where it does not compete by itself."""
        left_out = None if self.background_rule == "none" else dataset.background
        return tuple(id for id in range(len(dataset.classes)) if id != left_out)

    def _prompted_label(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        label = self._merged(label)
        if self.prompted_edges is None:
            return label
        width, height = shortest_edge_size(label.shape[1], label.shape[0], *self.prompted_edges)
        return resized_label(label, (height, width))
