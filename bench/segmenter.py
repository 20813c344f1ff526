"""Masks for one's own picture: a backbone and a method behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Unpack, overload

import numpy as np

from segscale.arguments import check_arguments
from segscale.errors import UserError
from segscale.registry import build

from ..backbones.backbone import Backbone
from ..backbones.build import build_backbone
from ..backbones.loading.options import LoadChoices, LoadOptions
from ..datasets.dataset import Sample
from ..methods.build import build_method
from ..methods.method import Method, PromptRule
from .inference.score import image_noise, score
from .pictures.inputs import PictureLike, picture_of
from .pictures.segmentation import PALETTE_COLOURS, Segmentation
from .tasks.pictures import picture_sample, task_of_classes
from .tasks.prompts import reads_captions
from .tasks.protocol import Protocol
from .tasks.task import Task


class Segmenter:
    """Calls like a function: ``segmenter(image, ["dog", "grass"])``.

    A method's prompts, word location and threshold hold here as they do in a run.
    """

    def __init__(self, backbone: Backbone, method: Method, protocol: Protocol) -> None:
        """Raise UserError for a method without named scores, or a protocol that needs labels."""
        _refuse_unnamed(method)
        self.backbone = backbone
        self.method = method
        self.protocol = protocol.at_threshold()

    @overload
    def __call__(
        self, image: list[PictureLike], classes: Sequence[str], caption: str | None = None, seed: int = 0
    ) -> list[Segmentation]: ...

    @overload
    def __call__(
        self, image: PictureLike, classes: Sequence[str], caption: str | None = None, seed: int = 0
    ) -> Segmentation: ...

    def __call__(
        self,
        image: PictureLike | list[PictureLike],
        classes: Sequence[str],
        caption: str | None = None,
        seed: int = 0,
    ) -> Segmentation | list[Segmentation]:
        """Segment ``image`` into ``classes`` and background.

        Args:
            image: A path, whose EXIF orientation holds; a picture of any mode and size, as its pixels lie; or an array
                ``(height, width)`` or ``(height, width, 3 or 4)`` of uint8 or of floats in [0, 1]. A list of these
                gives a list; each is segmented as it is alone.
            classes: Names, each once.
            caption: Gives context; its other words become background.
            seed: Of the noise; 0 or more.

        Raises:
            UserError: For classes as one text, a name that is no text or is repeated, names too long for the text
                encoder, or a caption in which the method finds no token of a class, or which it does not read; for
                what is no picture.
        """
        if seed < 0:
            raise UserError(f"the seed is {seed}", "name 0 or more")
        if isinstance(image, list):
            return [self._segment(each, classes, caption, seed) for each in image]
        return self._segment(image, classes, caption, seed)

    def _segment(self, image: PictureLike, classes: Sequence[str], caption: str | None, seed: int) -> Segmentation:
        check_caption(self.method, self.protocol, caption)
        picture = picture_of(image)
        task = task_of_classes(classes, self.protocol, self.method.normalised)
        sample = picture_sample(task, picture, caption)
        self._check_words(task, sample)
        (scored,) = score(self.backbone, task, [self.method], [sample], image_noise(self.backbone, task, seed))
        (answer,) = scored.by_method
        scores = answer.scores.classes
        # A class that a caption leaves out, where the protocol does not add it, has no score.
        maps = scores.new_zeros(len(classes), *scores.shape[1:])
        maps[[id - 1 for id in answer.prompts.class_ids]] = self.method.shown(scores)
        ids = task.label_map(answer.scores, answer.prompts.class_ids, (picture.height, picture.width))
        labels = ids.astype(np.uint8) if len(classes) < PALETTE_COLOURS else ids.astype(np.uint16)
        return Segmentation(picture, tuple(classes), labels, maps.float().cpu().numpy())

    def _check_words(self, task: Task, sample: Sample) -> None:
        """Raise UserError for a class that has no token in the prompt, and so no map."""
        for group in task.prompts(self.method, sample, self.backbone).groups:
            streams = self.backbone.tokenize(group.prompt)
            for word, *columns in zip(group.prompt.classes, *(stream.classes for stream in streams), strict=True):
                if any(columns):
                    continue
                if any(word.name in stream.cut for stream in streams):
                    raise UserError(
                        f"the prompt is longer than the text encoder's {streams[0].length} tokens and was cut before "
                        f"class {word.name!r}",
                        "give fewer classes or a shorter caption",
                    )
                raise UserError(
                    f"{self.method.name} reads class {word.name!r} as part of another word of {group.prompt.text!r}",
                    "part the caption's words by commas, without articles, or name goca-described",
                )


def _refuse_unnamed(method: Method) -> None:
    if method.unnamed_masks:
        raise UserError(f"{method.name} gives masks without names", "name another method, see: segscale list")


def check_caption(method: Method, protocol: Protocol, caption: str | None) -> None:
    """Raise UserError for a caption that says nothing, or is not read."""
    if caption is not None and not caption.strip():
        raise UserError("the caption is empty", "leave it out, or write one")
    if caption is None or reads_captions(protocol, method.prompt_rule):
        return
    if reads_captions(protocol, PromptRule("described")):
        raise UserError(f"{method.name} reads no caption", "leave it out, or name method goca-described")
    raise UserError(f"protocol {protocol.name} reads no caption", "leave it out, or name protocol standard")


def check_threshold(method: Method, threshold: float | None) -> None:
    """Raise UserError for a threshold where the method uses none."""
    if threshold is not None and not method.normalised:
        problem = f"{method.name} has an edge of its own, which no threshold moves"
        raise UserError(problem, "name another method, or leave it out")


def _refuse_out_of_range(threshold: float | None) -> None:
    if threshold is not None and not (isinstance(threshold, Real) and -1 <= float(threshold) <= 1):
        raise UserError(f"threshold is {threshold!r}", "name a number from -1 to 1")


def load(
    backbone: str = "pocket-sd15",
    method: str = "goca-described",
    weights: str | None = None,
    protocol: str = "standard",
    threshold: float | None = None,
    **choices: Unpack[LoadChoices],
) -> Segmenter:
    """Load a segmenter.

    Args:
        backbone: A name that ``segscale list`` shows.
        method: Likewise. The default reads a caption as it is written.
        weights: Hub id or local folder, instead of the config's.
        protocol: Gives prompts and threshold.
        threshold: What background gains before classes compete with it, instead of the protocol's; from -1 to 1, the
            larger, the less is found.
        choices: Fields of ``LoadOptions``, such as ``device="cuda"`` and ``dtype="bfloat16"``.

    Raises:
        UserError: For unknown names or choices, missing weights, or a threshold that is out of range or that the method
            does not use.
    """
    check_arguments("load", LoadOptions, choices)
    built, rules = build_method(method, backbone), build("protocol", protocol)
    # Before weights are loaded, which takes long.
    _refuse_unnamed(built)
    _refuse_out_of_range(threshold)
    check_threshold(built, threshold)
    rules = rules.at_threshold(threshold)
    return Segmenter(build_backbone(backbone, LoadOptions(**choices), weights), built, rules)
