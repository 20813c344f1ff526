"""A protocol states what a number means: prompt, class oracle, background, threshold, ignore rule, averaging."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from segscale.errors import UserError
from segscale.registry import PROTOCOLS

from ..evaluation.clusters import MatchingUnit
from ..evaluation.decision import AbsentRule, BackgroundRule, UndefinedRule, check_thresholds
from ..evaluation.metrics import Averaging

BEST: Literal["best"] = "best"
NOT_IN_IDENTITY = ("threshold", "averaging", "oracle_protocol", "datasets", "only_listed_datasets", "label_orders")
"""Fields that change no stored count, and those of other datasets."""


@PROTOCOLS.register_module()
@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The rules of an evaluation, as data. ``Task`` applies them to a dataset."""

    name: str
    variant: str = ""
    """How this differs from the config of that name, empty for the config itself; shown behind the name."""
    class_oracle: Literal["present", "all"]
    """``present``: the classes of the image are known; ``all``: the full vocabulary is prompted."""
    oracle_protocol: str | None = None
    """The protocol that differs from this one only in that classes are known; tables show the gap."""
    present_from: Literal["label", "annotations"] = "label"
    """Whether classes of an image are read from its label or from the dataset's annotations of objects."""
    prompted_edges: tuple[int, int] | None = None
    """Short and longest edge in pixels to which a label is resized before its classes are read; None: its own size."""

    prompt: Literal["caption", "class-names", "joined-names", "expression", "expression-head"]
    """The dataset's ``caption`` where it has one, else class names; always ``class-names``, followed by the word
    "background" where it competes; or ``joined-names``, names alone with a blank between them. Of referring
    segmentation, the sample's ``expression``, whose words all belong to the target, or of these its head noun alone
    (``expression-head``)."""
    names: str = "standard"
    """Whose class names are prompted, see ``datasets.names``."""
    name_list: str | None = None
    """Which of its lists; None for the dataset's own names."""
    caption_background: bool = False
    """Whether "background" is appended to captions."""
    add_missing: bool = True
    """Whether classes that a caption leaves out are appended."""

    background_rule: BackgroundRule
    thresholds: tuple[float, ...]
    """Counts at all of them are stored, see ``Decision``."""
    threshold: float | Literal["best"]
    """The one that a table reads, or ``best``: the best of the sweep on the images evaluated, which tables mark."""
    absent: AbsentRule
    undefined: UndefinedRule = "lowest"
    """What scores are worth that are not finite, as of classes whose words were cut from the prompt."""
    void: Literal["ignored", "background"]
    """Pixels labelled 255 are ignored, or count as background, which a dataset without that class then gets."""
    merged_labels: tuple[tuple[int, int], ...] = ()
    """Pairs of an id and the id that it becomes in every label."""
    background_scored: bool
    """Whether pixels labelled background count; it can be predicted in any case."""
    averaging: Averaging
    """Classes that enter the mean, see ``metrics.mean_iou``."""

    matching: MatchingUnit | None = None
    """For methods whose maps are clusters without names: the unit of ``ClusterMatching``."""
    evaluated_edges: tuple[int, int] | None = None
    """Short and longest edge, in pixels, at which clusters and label are compared."""
    crop_before_resize: bool = True
    """Whether cluster maps at the image's own size are cut to that size first (published)."""
    label_orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By benchmark: ids in the order of the published label files, which decides between equal matchings; ids that it
    leaves out do not count; elsewhere they ascend."""

    datasets: dict[str, dict[str, object]] = field(default_factory=dict)
    """By ``Dataset.benchmark``: fields that differ there; its ``arguments`` go to the dataset's constructor."""
    only_listed_datasets: bool = False
    """Whether other datasets are refused, because the paper says nothing of them."""

    def __post_init__(self) -> None:
        check_thresholds(self.background_rule, self.thresholds)
        if self.threshold not in (*self.thresholds, BEST):
            raise ValueError(f"threshold {self.threshold} is none of {self.thresholds}")
        if self.class_oracle == "all" and (self.prompt == "caption" or self.asks_expressions):
            raise ValueError("a full vocabulary is prompted by class names")
        if (self.matching is None) != (self.evaluated_edges is None):
            raise ValueError("matching and evaluated_edges go together")
        if self.matching is not None and self.background_rule != "none":
            raise ValueError("clusters without names have no background")

    @property
    def asks_expressions(self) -> bool:
        """Whether it is one of referring segmentation."""
        return self.prompt in ("expression", "expression-head")

    @property
    def stored_rules(self) -> dict[str, object]:
        """What changes stored counts; threshold and averaging are read when a table is made."""
        return {key: value for key, value in asdict(self).items() if key not in NOT_IN_IDENTITY}

    def at_dataset(self, benchmark: str, has_background: bool) -> Protocol:
        """The rules as they apply to a dataset; without a background class only classes compete."""
        fields = {key: value for key, value in self.datasets.get(benchmark, {}).items() if key != "arguments"}
        protocol = replace(self, **fields)
        if has_background or protocol.void == "background":
            return protocol
        return replace(protocol, background_rule="none", thresholds=(0.0,), threshold=0.0)

    def at_threshold(self, threshold: float | None = None) -> Protocol:
        """The rules at one threshold alone, by default at their own.

        Raises:
            UserError: Where they use none, or choose their own with the labels.
        """
        if threshold is not None and self.background_rule in ("exact", "none"):
            raise UserError(f"protocol {self.name} uses no threshold here", "leave it out, or name another protocol")
        chosen = self.threshold if threshold is None else threshold
        if chosen == BEST:
            raise UserError(f"protocol {self.name} chooses its threshold with the labels", "name standard instead")
        return replace(self, thresholds=(float(chosen),), threshold=float(chosen))

    def dataset_arguments(self, benchmark: str) -> dict[str, object]:
        """What these rules want of a dataset's constructor: its split, its view of the background.

        Raises:
            UserError: For a dataset that the protocol does not list, where only listed ones are evaluated.
        """
        if self.only_listed_datasets and benchmark not in self.datasets:
            listed = ", ".join(self.datasets)
            raise UserError(f"protocol {self.name} says nothing of {benchmark}", f"it knows: {listed}; or use standard")
        arguments = self.datasets.get(benchmark, {}).get("arguments", {})
        return {**arguments} if isinstance(arguments, dict) else {}
