"""A task: a protocol applied to a dataset, with every rule resolved once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError
from segscale.prompt import BACKGROUND

from ...backbones.backbone import Backbone
from ...backbones.latents.images import shortest_edge_size
from ...datasets.dataset import Dataset, Sample
from ...datasets.labels import IGNORE_LABEL
from ...datasets.names import Names, names_by_id
from ...methods.method import ClassScores, Method, PromptRule
from ..evaluation.clusters import ClusterMatching, count_clusters, resize_label
from ..evaluation.decision import Decision
from ..evaluation.labelling import decide_pixels, strips
from ..evaluation.pixel_counts import PixelCounts, count_pixels
from ..evaluation.score_counting import score_histograms
from ..evaluation.score_histograms import MOST_SCORES, ScoreHistograms
from .identity import DatasetIdentity, ProtocolIdentity, TableRules, TaskIdentity, plain_data
from .prompts import PromptGroups, prompts_for_present, prompts_for_vocabulary
from .protocol import Protocol

LISTED_APART = ("name", "variant", "class_oracle", "thresholds")
"""Fields of a protocol that ``ProtocolIdentity`` has by themselves."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked about the images of a dataset, and how answers are counted."""

    protocol: Protocol
    """As it applies to the dataset."""
    dataset: Dataset
    names: Names
    """Of every class id, the one that prompts use first."""
    background_id: int | None
    """Of background in stored counts: the dataset's, or one more where void counts as background."""
    _vocabulary_prompts: dict[tuple[PromptRule, str], PromptGroups] = field(default_factory=dict, repr=False)
    """The full vocabulary is prompted alike for every image."""

    @classmethod
    def of(cls, protocol: Protocol, dataset: Dataset) -> Task:
        """Apply ``protocol`` to ``dataset``, which was built with its ``dataset_arguments``."""
        if dataset.expressions != protocol.asks_expressions:
            has = "has an expression per sample" if dataset.expressions else "has no expressions"
            hint = "use protocol referring" if dataset.expressions else "use protocol standard"
            raise UserError(f"{dataset.name} {has}, which protocol {protocol.name} does not suit", hint)
        applied = protocol.at_dataset(dataset.benchmark, dataset.background is not None)
        added = dataset.background is None and applied.void == "background"
        return cls(
            protocol=applied,
            dataset=dataset,
            names=_names(applied, dataset),
            background_id=len(dataset.classes) if added else dataset.background,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of stored counts."""
        classes = self.dataset.classes
        return (*classes, BACKGROUND) if self.background_id == len(classes) else classes

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """Ids of all classes; background is one only where it does not compete by itself."""
        left_out = None if self.protocol.background_rule == "none" else self.dataset.background
        return tuple(id for id in range(len(self.dataset.classes)) if id != left_out)

    @property
    def decision(self) -> Decision:
        """How scores become label maps."""
        protocol = self.protocol
        background = None if protocol.background_rule == "none" else self.background_id
        return Decision(
            len(self.class_names),
            background,
            protocol.background_rule,
            protocol.thresholds,
            protocol.absent,
            protocol.undefined,
        )

    @property
    def ignored_ids(self) -> frozenset[int]:
        """Labels whose pixels do not count."""
        unscored = {IGNORE_LABEL}
        if not self.protocol.background_scored and self.background_id is not None:
            unscored.add(self.background_id)
        return frozenset(unscored)

    @property
    def table_rules(self) -> TableRules:
        """How tables read the counts."""
        return TableRules(self.protocol.threshold, self.protocol.averaging, self.protocol.oracle_protocol)

    @property
    def identity(self) -> TaskIdentity:
        """Everything that can change a count."""
        dataset, protocol = self.dataset, self.protocol
        rules = {key: value for key, value in protocol.stored_rules.items() if key not in LISTED_APART}
        rules["label_order"] = protocol.label_orders.get(dataset.benchmark)
        return TaskIdentity(
            dataset_identity(dataset),
            ProtocolIdentity(
                name=protocol.name,
                variant=protocol.variant,
                full_vocabulary=protocol.class_oracle == "all",
                thresholds=tuple(float(threshold) for threshold in protocol.thresholds),
                class_names=_digest(json.dumps(self.names)),
                rules=plain_data(rules),
            ),
        )

    def present_classes(self, sample: Sample) -> tuple[int, ...]:
        """Ids of the classes that take part, ascending; not ignored, and background only as a class like others.

        Raises:
            UserError: Where annotations decide and the dataset has none.
        """
        # Pillow's histogram of bytes is ten times as fast as numpy's.
        pixels = Image.fromarray(self._prompted_label(sample.label)).histogram()
        ids: Iterable[int] = (id for id, count in enumerate(pixels) if count)
        if self.protocol.present_from == "annotations":
            if sample.present is None:
                raise UserError(f"{self.dataset.name} has no annotations of what is present", "use another protocol")
            ids = sample.present
        vocabulary = self.vocabulary
        return tuple(int(id) for id in ids if id in vocabulary)

    def prompts(self, method: Method, sample: Sample, backbone: Backbone) -> PromptGroups:
        """What ``method`` asks ``backbone`` about a sample."""
        rule = method.prompt_rule
        if self.protocol.class_oracle == "present":
            return self.present_prompts(rule, sample)
        key = (rule, backbone.name)
        if key not in self._vocabulary_prompts:
            groups = prompts_for_vocabulary(self.protocol, rule, self.names, self.vocabulary, backbone)
            self._vocabulary_prompts[key] = groups
        return self._vocabulary_prompts[key]

    def present_prompts(self, rule: PromptRule, sample: Sample) -> PromptGroups:
        """The prompt for the classes that a sample shows."""
        return prompts_for_present(self.protocol, rule, self.names, sample.caption, self.present_classes(sample))

    def count(self, scores: ClassScores, class_ids: tuple[int, ...], sample: Sample) -> PixelCounts:
        """Count pixels at every threshold of the protocol.

        Args:
            scores: One map per class of ``class_ids``, or clusters without names.
            class_ids: Of the maps; not used for clusters.
            sample: The image with its label.
        """
        matching = self._matching
        if matching is not None:
            return count_clusters(scores.classes, sample.label, matching)
        target = self.target_label(sample.label)
        won = decide_pixels(scores, class_ids, self.decision, (target.shape[0], target.shape[1]))
        return count_pixels(won, self.decision, target, self.ignored_ids)

    def score_histograms(
        self, scores: ClassScores, class_ids: tuple[int, ...], sample: Sample, normalised: bool
    ) -> ScoreHistograms:
        """Count pixels by score and class, for metrics without a threshold.

        There are none where scores are of clusters, or every image has those of more than ``MOST_SCORES`` classes. An
        image that shows more keeps its own, or its classes would count as never found.

        Args:
            scores: As of ``count``.
            class_ids: As of ``count``.
            sample: As of ``count``.
            normalised: Of the method.
        """
        too_many = self.protocol.class_oracle == "all" and len(class_ids) > MOST_SCORES
        if self._matching is not None or too_many:
            return ScoreHistograms.none()
        target = self.target_label(sample.label)
        return score_histograms(scores.classes, class_ids, target, normalised, self.ignored_ids)

    def label_map(self, scores: ClassScores, class_ids: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.int16]:
        """Predicted class id of every pixel at the protocol's threshold, 255 where no class competes.

        Args:
            scores: One map per class of ``class_ids``.
            class_ids: Of the maps.
            size: Height and width of the label map.

        Raises:
            ValueError: The threshold is the best one, or scores are of clusters.
        """
        place = self.protocol.thresholds.index(float(self.protocol.threshold))
        decided = np.empty(size, np.int16)
        for rows in strips(size, len(class_ids) + 1):
            maps = decide_pixels(scores, class_ids, self.decision, size, rows).label_maps(self.decision)
            decided[rows.start : rows.stop] = maps[min(place, len(maps) - 1)]
        return decided

    def evaluated_pixels(self, sample: Sample) -> int:
        """Pixels of the label map that is compared, those that do not count included."""
        height, width = sample.label.shape if self._matching is None else self._matching.size(sample.label)
        return height * width

    def merged_label(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label with the class ids that prompts and counts use."""
        for id, becomes in self.protocol.merged_labels:
            label = np.where(label == id, np.uint8(becomes), label)
        return label

    def target_label(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label map that predictions are compared with."""
        label = self.merged_label(label)
        if self.protocol.void == "ignored" or self.background_id is None:
            return label
        return np.where(label == IGNORE_LABEL, np.uint8(self.background_id), label)

    @property
    def _matching(self) -> ClusterMatching | None:
        protocol, classes = self.protocol, len(self.dataset.classes)
        if protocol.matching is None or protocol.evaluated_edges is None:
            return None
        order = protocol.label_orders.get(self.dataset.benchmark, tuple(range(classes)))
        return ClusterMatching(classes, order, protocol.matching, protocol.evaluated_edges, protocol.crop_before_resize)

    def _prompted_label(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        label = self.merged_label(label)
        if self.protocol.prompted_edges is None:
            return label
        width, height = shortest_edge_size(label.shape[1], label.shape[0], *self.protocol.prompted_edges)
        return resize_label(label, (height, width))


def dataset_identity(dataset: Dataset) -> DatasetIdentity:
    """Which images of a dataset are evaluated, and how their labels are read."""
    return DatasetIdentity(
        name=dataset.name,
        benchmark=dataset.benchmark,
        split=dataset.split,
        images=_digest("\n".join(dataset.ids)),
        options=plain_data(dataset.identity_options),
    )


def _names(protocol: Protocol, dataset: Dataset) -> Names:
    if protocol.name_list is None:
        return tuple((name,) for name in dataset.classes)
    return names_by_id(protocol.names, protocol.name_list, dataset.classes, dataset.background)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
