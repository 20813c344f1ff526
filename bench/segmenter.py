"""Masks for one's own picture: a backbone and a method behind one call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segscale.errors import UserError
from segscale.files import explained_writes
from segscale.prompt import BACKGROUND
from segscale.registry import build

from ..backbones.backbone import Backbone
from ..backbones.build import build_backbone
from ..backbones.loading.options import LoadOptions
from ..datasets.dataset import Sample
from ..datasets.labels import colour_map
from ..methods.build import build_method
from ..methods.method import Method
from .evaluation.labelling import resize_scores
from .inference.score import image_noise, score
from .tasks.pictures import check_needs_no_label, picture_sample, task_of_classes
from .tasks.protocol import Protocol
from .tasks.task import Task

OVERLAY_OPACITY = 0.55
PALETTE_COLOURS = 256


@dataclass(frozen=True)
class Segmentation:
    """Masks of one picture."""

    image: Image.Image
    names: tuple[str, ...]
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """``(height, width)`` at image size, 0 = background, ``i`` = ``names[i - 1]``; uint16 beyond 255 classes."""
    scores: NDArray[np.float32]
    """``(classes, height, width)`` at image size, in [0, 1]."""

    @property
    def areas(self) -> dict[str, int]:
        """Pixels per name, background first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names) + 1)
        return {name: int(count) for name, count in zip((BACKGROUND, *self.names), counts, strict=True)}

    def indexed(self) -> Image.Image:
        """The labels as a palette image, or as 16-bit grey beyond 255 classes."""
        image = Image.fromarray(self.labels)
        if self.labels.dtype == np.uint8:
            image.putpalette([value for colour in colour_map(PALETTE_COLOURS) for value in colour])
        return image

    def overlay(self) -> Image.Image:
        """The image with every class tinted, background left as it is."""
        pixels = np.asarray(self.image.convert("RGB"), np.float32)
        tint = np.array(colour_map(len(self.names) + 1), np.float32)[self.labels]
        opacity = np.where(self.labels > 0, OVERLAY_OPACITY, 0.0)[..., None]
        return Image.fromarray((pixels * (1 - opacity) + tint * opacity).astype(np.uint8))

    def save(self, folder: Path, stem: str, source: Path | None = None) -> list[Path]:
        """Write overlay, indexed labels, one heat map per class and a JSON of names, areas and the image's source."""
        with explained_writes(folder, "--output"):
            return self._save(folder, stem, source)

    def _save(self, folder: Path, stem: str, source: Path | None) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        images = {f"{stem}_overlay.png": self.overlay(), f"{stem}_labels.png": self.indexed()}
        for index, (name, scores) in enumerate(zip(self.names, self.scores, strict=True), 1):
            heat = Image.fromarray((np.nan_to_num(scores).clip(0, 1) * 255).astype(np.uint8))
            images[f"{stem}_heat{index}_{_file_name(name)}.png"] = heat
        for file, image in images.items():
            image.save(folder / file)
        colours = colour_map(len(self.names) + 1)
        classes = [
            {"id": index, "name": name, "pixels": pixels, "colour": colours[index]}
            for index, (name, pixels) in enumerate(self.areas.items())
        ]
        summary = folder / f"{stem}.json"
        image = str(source.resolve()) if source else None
        summary.write_text(json.dumps({"image": image, "size": self.image.size, "classes": classes}, indent=2) + "\n")
        return [*(folder / file for file in images), summary]


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


class Segmenter:
    """Calls like a function: ``segmenter(image, ["dog", "grass"])``.

    A method's prompts, word location and threshold hold here as they do in a run.
    """

    def __init__(self, backbone: Backbone, method: Method, protocol: Protocol) -> None:
        """Raise UserError for a method without named scores, or a protocol that needs labels."""
        _check_choices(method, protocol)
        self.backbone = backbone
        self.method = method
        self.protocol = protocol

    def __call__(
        self, image: Image.Image, classes: Sequence[str], caption: str | None = None, seed: int = 0
    ) -> Segmentation:
        """Segment ``image`` into ``classes`` and background.

        Args:
            image: Of any mode and size.
            classes: Names, each once.
            caption: Gives context; its other words become background.
            seed: Of the noise.

        Raises:
            UserError: For a repeated name, names too long for the text encoder, or a caption in which the method
                finds no token of a class.
        """
        task = task_of_classes(classes, self.protocol, self.method.normalised)
        sample = picture_sample(task, image, caption)
        self._check_words(task, sample)
        (scored,) = score(self.backbone, task, [self.method], [sample], image_noise(self.backbone, task, seed))
        (answer,) = scored.by_method
        size = (image.height, image.width)
        scores = answer.scores.classes
        # A class that a caption leaves out, where the protocol does not add it, has no score.
        maps = scores.new_zeros(len(classes), *scores.shape[1:])
        maps[[id - 1 for id in answer.prompts.class_ids]] = _visible(scores, self.method.normalised)
        ids = task.label_map(answer.scores, answer.prompts.class_ids, size)
        labels = ids.astype(np.uint8) if len(classes) < PALETTE_COLOURS else ids.astype(np.uint16)
        return Segmentation(image, tuple(classes), labels, resize_scores(maps, size).numpy())

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


def _check_choices(method: Method, protocol: Protocol) -> None:
    if method.unnamed_masks:
        raise UserError(f"{method.name} gives masks without names", "name another method, see: segscale list")
    check_needs_no_label(protocol)


def _visible(maps: Tensor, normalised: bool) -> Tensor:
    """Raw attention is shown relative to its largest value."""
    return maps if normalised or not len(maps) else maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)


def load(
    backbone: str = "pocket-sd15",
    method: str = "goca-described",
    weights: str | None = None,
    load_options: LoadOptions | None = None,
    protocol: str = "standard",
) -> Segmenter:
    """Load a segmenter.

    Args:
        backbone: A name that ``segscale list`` shows.
        method: Likewise. The default reads a caption as it is written.
        weights: Hub id or local folder, instead of the config's.
        load_options: Device, precision and the like.
        protocol: Gives prompts and threshold.

    Raises:
        UserError: For unknown names or missing weights.
    """
    built, rules = build_method(method, backbone), build("protocol", protocol)
    _check_choices(built, rules)  # before weights are loaded, which takes long
    return Segmenter(build_backbone(backbone, load_options, weights), built, rules)
