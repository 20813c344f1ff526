"""One's own pictures as a task: the classes are named by the user, and there is no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from segscale.errors import UserError
from segscale.prompt import BACKGROUND

from ...datasets.colours import class_colours
from ...datasets.dataset import DatasetWithoutSamples, Sample
from ...datasets.labels import IGNORE_LABEL
from .protocol import Protocol
from .task import Task


class Pictures(DatasetWithoutSamples):
    """The classes that a user names, after background."""

    name = benchmark = "predict"
    split = "own"
    splits = ("own",)
    background = 0

    def __init__(self, class_names: Sequence[str]) -> None:
        """Raise UserError for one text, for no name, or for one that is no text, stands twice or is "background"."""
        if isinstance(class_names, str):
            raise UserError("classes is one text", "give a list, as in ['dog']")
        if strange := [name for name in class_names if not isinstance(name, str)]:
            raise UserError(f"class {strange[0]!r} is no text", "give names, as in ['dog']")
        if not class_names:
            raise UserError("there is no class to prompt", "name at least one, as in --classes 'dog, grass'")
        if len(set(class_names)) < len(class_names):
            raise UserError("a class is named twice", "name each once")
        if BACKGROUND in class_names:
            raise UserError(f"{BACKGROUND!r} is what is left over, not a class", "leave it out")
        self.classes = (BACKGROUND, *class_names)
        self.palette = class_colours(len(self.classes))


def task_of_classes(class_names: Sequence[str], protocol: Protocol, normalised: bool = True) -> Task:
    """The task of finding named classes in a picture, by the rules of ``protocol``.

    Args:
        class_names: All of them take part in every picture.
        protocol: Its prompts and its threshold hold here as they do in a run.
        normalised: Of the method; raw attention has the threshold 0, as in tables.

    Raises:
        UserError: For names that cannot be told apart, or a protocol that chooses its threshold with labels.
    """
    rules = replace(
        protocol.at_threshold(),
        present_from="annotations",
        name_list=None,
        prompted_edges=None,
        datasets={},
        only_listed_datasets=False,
    )
    if not normalised:
        rules = replace(rules, thresholds=(0.0,), threshold=0.0)
    return Task.of(rules, Pictures(class_names))


def picture_sample(task: Task, image: Image.Image, caption: str | None = None, id: str = "") -> Sample:
    """A picture without a label, in which every class of ``task`` may be."""
    label = np.full((image.height, image.width), IGNORE_LABEL, np.uint8)
    return Sample(id, image, label, caption, present=tuple(range(1, len(task.dataset.classes))))
