"""A protocol states what a number means: prompt, class oracle, background, threshold, ignore rule, averaging."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segscale.prompt import Prompt
from segscale.registry import PROTOCOLS

from ..datasets.dataset import IGNORE_LABEL, Dataset, Sample
from ..datasets.prompts import caption_prompt, class_prompt
from .decision import AbsentRule, BackgroundRule, Decision, check_thresholds
from .matching import MatchingUnit

BACKGROUND_WORD = "background"

Averaging = Literal["all", "in-ground-truth", "every-class"]
BEST = "best"


@PROTOCOLS.register_module()
@dataclass(frozen=True)
class Protocol:
    """class_oracle: ``present``, the classes of the image are known. prompt: the dataset's caption where it has
    one, or always the class names; class names are followed by the word "background".

    background_rule, thresholds, absent: as of ``Decision``; areas at all thresholds are stored. threshold: the one
    that a table reads, or ``best``: the best of the sweep on the very images evaluated, which tables mark.
    void: pixels labelled 255 are ``ignored``, or count as ``background``, which a dataset without such a class then
    gets. background_scored: whether pixels labelled background count; it can be predicted in any case.
    averaging: classes that enter the mean, see ``metrics.mean_iou``.

    matching: for methods whose maps are clusters without names: they are matched to classes per pixel ``row`` or per
    ``image`` and compared with the label at ``evaluated_edges``, short and longest edge in pixels. label_orders: by
    dataset, ids in the order of the published label files, which decides between equal matchings; ids that it leaves
    out do not count; elsewhere they ascend.
    """

    name: str
    class_oracle: Literal["present"]
    prompt: Literal["caption", "class-names"]
    background_rule: BackgroundRule
    thresholds: tuple[float, ...]
    threshold: float | Literal["best"]
    absent: AbsentRule
    void: Literal["ignored", "background"]
    background_scored: bool
    averaging: Averaging
    matching: MatchingUnit | None = None
    evaluated_edges: tuple[int, int] | None = None
    label_orders: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_thresholds(self.background_rule, self.thresholds)
        if self.threshold not in (*self.thresholds, BEST):
            raise ValueError(f"threshold {self.threshold} is none of {self.thresholds}")
        if (self.matching is None) != (self.evaluated_edges is None):
            raise ValueError("matching and evaluated_edges go together")
        if self.matching is not None and self.background_rule != "none":
            raise ValueError("clusters without names have no background")

    @property
    def rules(self) -> dict[str, Any]:
        """What changes stored areas; threshold and averaging are chosen when a table is made."""
        return {key: value for key, value in asdict(self).items() if key not in ("threshold", "averaging")}

    def without_background(self) -> Protocol:
        """These rules for a dataset that has no background class: only classes compete."""
        return replace(self, background_rule="none", thresholds=(0.0,), threshold=0.0)

    def resolved(self, dataset: Dataset) -> Protocol:
        """These rules as they apply to ``dataset``."""
        return self if self.background_id(dataset) is not None else self.without_background()

    def background_id(self, dataset: Dataset) -> int | None:
        """Id of background in stored areas: the dataset's, or one more where void counts as background."""
        if dataset.background is None and self.void == "background":
            return len(dataset.classes)
        return dataset.background

    def class_names(self, dataset: Dataset) -> tuple[str, ...]:
        """Names in the order of stored areas."""
        added = self.background_id(dataset) == len(dataset.classes)
        return (*dataset.classes, BACKGROUND_WORD) if added else dataset.classes

    def decision(self, dataset: Dataset) -> Decision:
        """How scores become label maps. Only for rules resolved for ``dataset``."""
        background = None if self.background_rule == "none" else self.background_id(dataset)
        return Decision(len(self.class_names(dataset)), background, self.background_rule, self.thresholds, self.absent)

    def truth(self, label: NDArray[np.uint8], dataset: Dataset) -> NDArray[np.uint8]:
        """The label map that predictions are compared with."""
        background = self.background_id(dataset)
        if self.void == "ignored" or background is None:
            return label
        return np.where(label == IGNORE_LABEL, np.uint8(background), label)

    def unscored(self, dataset: Dataset) -> frozenset[int]:
        """Labels whose pixels do not count."""
        background = self.background_id(dataset)
        return frozenset({IGNORE_LABEL} if self.background_scored or background is None else {IGNORE_LABEL, background})

    def present_classes(self, sample: Sample, dataset: Dataset) -> tuple[int, ...]:
        """Ids of the classes that take part, ascending; not ignored, and background only as a class like others."""
        left_out = (IGNORE_LABEL,) if self.background_rule == "none" else (IGNORE_LABEL, dataset.background)
        return tuple(int(i) for i in np.unique(sample.label) if i not in left_out)

    def prompt_of(self, sample: Sample, dataset: Dataset, class_ids: tuple[int, ...]) -> Prompt:
        names = [dataset.classes[i] for i in class_ids]
        if self.prompt == "caption" and sample.caption is not None:
            return caption_prompt(sample.caption, names)
        return class_prompt(names, [BACKGROUND_WORD])
