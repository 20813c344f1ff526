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
from segscale.prompt import BACKGROUND, Prompt
from segscale.registry import build

from ..backbones.backbone import Backbone
from ..backbones.latents.noise import image_generator
from ..backbones.loading.pretrained import LoadOptions
from ..backbones.text.tokens import StreamTokens
from ..datasets.prompts.described import caption_prompt, class_prompt
from ..methods.method import Method
from .evaluation.decision import Decision, label_maps, resize_scores
from .runs.plan import build_backbone, build_method
from .tasks.protocol import BEST

NOISE_NAME = "predict"
OVERLAY_OPACITY = 0.55
# Word maps lie in [0, 1]; without a background word to compete with, a class must reach this.
ALONE_THRESHOLD = 0.4


def palette(count: int) -> NDArray[np.uint8]:
    """Pascal VOC's colour map: black, then colours that differ in their highest bits first; ``(count, 3)``."""
    indices = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((indices >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


@dataclass(frozen=True)
class Segmentation:
    """labels: uint8 ``(height, width)`` at image size, 0 = background, ``i`` = ``names[i - 1]``.

    scores: float32 ``(classes, height, width)`` at image size, in [0, 1].
    """

    image: Image.Image
    names: tuple[str, ...]
    labels: NDArray[np.uint8]
    scores: NDArray[np.float32]

    @property
    def areas(self) -> dict[str, int]:
        """Pixels per name, background first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names) + 1)
        return {name: int(count) for name, count in zip((BACKGROUND, *self.names), counts, strict=True)}

    def indexed(self) -> Image.Image:
        """The labels as a palette image."""
        image = Image.fromarray(self.labels, mode="P")
        image.putpalette(palette(256).ravel().tolist())
        return image

    def overlay(self) -> Image.Image:
        """The image with every class tinted, background left as it is."""
        pixels = np.asarray(self.image.convert("RGB"), np.float32)
        tint = palette(len(self.names) + 1)[self.labels].astype(np.float32)
        opacity = np.where(self.labels > 0, OVERLAY_OPACITY, 0.0)[..., None]
        return Image.fromarray((pixels * (1 - opacity) + tint * opacity).astype(np.uint8))

    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes overlay, indexed labels, one heat map per class and a JSON of names and areas."""
        with explained_writes(folder, "--output"):
            return self._save(folder, stem)

    def _save(self, folder: Path, stem: str) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        images = {f"{stem}_overlay.png": self.overlay(), f"{stem}_labels.png": self.indexed()}
        for index, (name, scores) in enumerate(zip(self.names, self.scores, strict=True), 1):
            heat = Image.fromarray((np.nan_to_num(scores).clip(0, 1) * 255).astype(np.uint8))
            images[f"{stem}_heat{index}_{_file_name(name)}.png"] = heat
        for file, image in images.items():
            image.save(folder / file)
        classes = [
            {"id": index, "name": name, "pixels": pixels, "colour": palette(index + 1)[index].tolist()}
            for index, (name, pixels) in enumerate(self.areas.items())
        ]
        summary = folder / f"{stem}.json"
        summary.write_text(json.dumps({"size": self.image.size, "classes": classes}, indent=2) + "\n")
        return [*(folder / file for file in images), summary]


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


class Segmenter:
    """Calls like a function: ``segmenter(image, ["dog", "grass"])``.

    threshold: offset of the background map that a class must beat, as in the protocols; used where the caption
    has background words.
    """

    def __init__(self, backbone: Backbone, method: Method, threshold: float) -> None:
        self.backbone = backbone
        self.method = method
        self.threshold = threshold

    def __call__(
        self, image: Image.Image, classes: Sequence[str], caption: str | None = None, seed: int = 0
    ) -> Segmentation:
        """Labels of ``image`` for ``classes``; a caption gives context and background words.

        Raises UserError for an empty class list, a repeated name, or names too long for the text encoder.
        """
        prompt = _prompt(classes, caption, self.method.stretched)
        _check_length(prompt, self.backbone.tokenize(prompt))
        threshold = self.threshold if prompt.background else ALONE_THRESHOLD
        if not self.method.stretched:
            threshold = 0.0
        sites = self.backbone.sites(self.method.settings.image_size)
        maps = self.backbone.capture(
            image, prompt, self.method.request(sites), self.method.settings, image_generator(seed, NOISE_NAME, "")
        )
        scores = self.method(maps)
        size = (image.height, image.width)
        ids = tuple(range(1, len(classes) + 1))
        decision = Decision(len(classes) + 1, 0, "offset", (threshold,), "excluded")
        return Segmentation(
            image,
            tuple(classes),
            label_maps(scores, ids, decision, size)[0].astype(np.uint8),
            resize_scores(_visible(scores.classes, self.method.stretched), size).numpy(),
        )


def _visible(maps: Tensor, stretched: bool) -> Tensor:
    """Raw attention is shown relative to its largest value."""
    return maps if stretched or not len(maps) else maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)


def _prompt(classes: Sequence[str], caption: str | None, stretched: bool) -> Prompt:
    """Raw attention has no natural threshold, so a background word competes there."""
    if len(set(classes)) < len(classes):
        raise UserError("a class is named twice", "name each once")
    if BACKGROUND in classes:
        raise UserError(f"{BACKGROUND!r} is what is left over, not a class", "leave it out")
    if caption is not None:
        return caption_prompt(caption, classes)
    return class_prompt(classes, () if stretched else (BACKGROUND,))


def _check_length(prompt: Prompt, tokens: tuple[StreamTokens, ...]) -> None:
    for word, *columns in zip(prompt.classes, *(stream.classes for stream in tokens), strict=True):
        if not any(columns):
            raise UserError(
                f"the prompt is longer than the text encoder's {tokens[0].length} tokens and was cut before "
                f"class {word.name!r}",
                "give fewer classes or a shorter caption",
            )


def load(
    backbone: str = "pocket-sd15",
    method: str = "vanilla",
    weights: str | None = None,
    load_options: LoadOptions | None = None,
    protocol: str = "standard",
) -> Segmenter:
    """A ready segmenter; ``protocol`` gives its threshold. Raises UserError for one that chooses it with labels."""
    threshold = build("protocol", protocol).threshold
    if threshold == BEST:
        raise UserError(f"protocol {protocol} chooses its threshold with the labels", "name standard instead")
    built = build_method(method, backbone)
    if built.clusters:
        raise UserError(f"{method} gives masks without names", "name another method, see: segscale list")
    return Segmenter(build_backbone(backbone, load_options, weights), built, threshold)
