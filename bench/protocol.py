"""A protocol states what a number means: prompt, class oracle, background rule, threshold, averaging."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from segscale.prompt import Prompt
from segscale.registry import PROTOCOLS

from ..datasets.dataset import IGNORE_LABEL, Dataset, Sample
from ..datasets.prompts import caption_prompt, class_prompt

BACKGROUND_WORD = "background"

Averaging = Literal["all", "in-ground-truth"]


@PROTOCOLS.register_module()
@dataclass(frozen=True)
class Protocol:
    """class_oracle: ``present``, the classes of the image are known. prompt: the dataset's caption where it has
    one, or always the class names; class names are followed by the word "background".
    averaging: classes that enter the mean, ``all`` of the dataset or those
    ``in-ground-truth`` of the images evaluated. thresholds: ascending offsets ``t`` of the background map, all
    stored; threshold: the one that a table reads.
    """

    name: str
    class_oracle: Literal["present"]
    prompt: Literal["caption", "class-names"]
    averaging: Averaging
    thresholds: tuple[float, ...]
    threshold: float

    def __post_init__(self) -> None:
        if list(self.thresholds) != sorted(set(self.thresholds)) or self.threshold not in self.thresholds:
            raise ValueError("thresholds must ascend and hold the threshold")

    @property
    def rules(self) -> dict[str, Any]:
        """What changes stored areas; threshold and averaging are chosen when a table is made."""
        return {key: value for key, value in asdict(self).items() if key not in ("threshold", "averaging")}

    def present_classes(self, sample: Sample, dataset: Dataset) -> tuple[int, ...]:
        """Ids of the classes that take part, ascending; neither background nor ignored."""
        ids = np.unique(sample.label)
        return tuple(int(i) for i in ids if i not in (IGNORE_LABEL, dataset.background))

    def prompt_of(self, sample: Sample, dataset: Dataset, class_ids: tuple[int, ...]) -> Prompt:
        names = [dataset.classes[i] for i in class_ids]
        if self.prompt == "caption" and sample.caption is not None:
            return caption_prompt(sample.caption, names)
        return class_prompt(names, [BACKGROUND_WORD])
