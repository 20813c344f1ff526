"""Where each word of a prompt is drawn, while a diffusers pipeline draws it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError, did_you_mean

from ..backbones.tracing import TracedPicture, Tracer
from .pictures.drawing import captioned, heated, side_by_side

Maps = NDArray[np.float32]
SHOWN_EDGE = 256
"""Longest edge of a map that is drawn without its picture."""
FILM_STEPS = 8
"""Steps that a film shows at most, evenly spaced."""


class WordMaps:
    """Attention to the words of a prompt while one picture is drawn."""

    def __init__(self, traced: TracedPicture) -> None:
        """Show what was traced."""
        self.prompt = traced.prompt
        self.words = traced.words
        """Every word, in lower case and once."""
        self.steps: Maps = torch.stack(traced.steps).numpy()
        """``(steps, words, height, width)``, float32: the mean over sites, heads and a word's tokens and places."""

    def __getitem__(self, word: str) -> Maps:
        """The mean over steps, ``(height, width)``. Raises UserError for a word that the prompt does not have."""
        return self.steps[:, self._place(word)].mean(0)

    def draw(
        self, image: Image.Image | None = None, words: str | Sequence[str] | None = None, step: int | None = None
    ) -> Image.Image:
        """Draw maps side by side, each word's own maximum in the brightest colour.

        Args:
            image: The picture, to draw over.
            words: Which one, or which of them; by default all.
            step: Draw this step, counted from 0 and -1 the last, instead of the mean over all.

        Raises:
            UserError: For a word or a step that is not there, and for no word at all.
        """
        chosen = self.words if words is None else [words] if isinstance(words, str) else words
        if not chosen:
            raise UserError("there is no word to draw", f"words={list(self.words)} are all that were traced")
        return side_by_side([captioned(self._over(image, self._map(word, step)), word) for word in chosen])

    def film(self, word: str, image: Image.Image | None = None) -> Image.Image:
        """Draw a word at up to eight steps from the first to the last. Raises UserError as ``draw`` does."""
        places = np.unique(np.linspace(0, len(self.steps) - 1, FILM_STEPS).round().astype(int)).tolist()
        return side_by_side(
            [captioned(self._over(image, self._map(word, step)), f"{word}, step {step + 1}") for step in places]
        )

    def _map(self, word: str, step: int | None) -> Maps:
        if step is None:
            return self[word]
        if not -len(self.steps) <= step < len(self.steps):
            raise UserError(f"there is no step {step}", f"{len(self.steps)} were traced, counted from 0")
        return self.steps[step, self._place(word)]

    def _place(self, word: str) -> int:
        if word.lower() not in self.words:
            raise UserError(
                f"{self.prompt!r} has no word {word!r} with a token", did_you_mean(word.lower(), self.words)
            )
        return self.words.index(word.lower())

    @staticmethod
    def _over(image: Image.Image | None, values: Maps) -> Image.Image:
        if image is None:
            height, width = values.shape
            scale = SHOWN_EDGE / max(height, width)
            image = Image.new("RGB", (round(scale * width), round(scale * height)))
        return heated(image, values / max(float(values.max()), float(np.finfo(np.float32).tiny)))


class Trace:
    """A context manager around calls of a pipeline; a sequence of the word maps of their pictures.

    Words, drawings and films of the first picture can be asked of it directly.
    """

    def __init__(self, tracer: Tracer) -> None:
        """Wrap what observes."""
        self._tracer = tracer

    def __enter__(self) -> Trace:
        """Begin to observe."""
        self._tracer.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the pipeline as it was; the maps stay."""
        self._tracer.__exit__(exc_type, exc, traceback)

    @property
    def pictures(self) -> list[WordMaps]:
        """One for every picture. Raises UserError where none was drawn."""
        if not (traced := [picture for picture in self._tracer.pictures if picture.steps]):
            raise UserError("no picture was traced", "call the pipeline within the with block")
        return [WordMaps(picture) for picture in traced]

    @property
    def words(self) -> tuple[str, ...]:
        """Of the first picture."""
        return self.pictures[0].words

    def __getitem__(self, word: str) -> Maps:
        """As of ``WordMaps``."""
        return self.pictures[0][word]

    def draw(
        self, image: Image.Image | None = None, words: str | Sequence[str] | None = None, step: int | None = None
    ) -> Image.Image:
        """As of ``WordMaps``."""
        return self.pictures[0].draw(image, words, step)

    def film(self, word: str, image: Image.Image | None = None) -> Image.Image:
        """As of ``WordMaps``."""
        return self.pictures[0].film(word, image)


def trace(pipeline: DiffusionPipeline, sites: Collection[str] | None = None) -> Trace:
    """Trace where a pipeline draws the words of its prompt.

    ``with segscale.trace(pipeline) as maps: image = pipeline("a star on water").images[0]`` observes all that is drawn
    in the block; ``maps.draw(image)`` shows it, and ``maps["star"]`` is an array.

    Maps are attention as it is, the mean over sites and heads: what DAAM (arXiv 2210.04885) shows of Stable Diffusion,
    for joint attention too.

    Args:
        pipeline: A diffusers pipeline of Stable Diffusion 1 or 2, XL, 3 or 3.5, PixArt-Sigma or Flux.
        sites: Names of sites, as ``segscale sites`` lists them; by default every one with text.

    Raises:
        UserError: For another pipeline. Within the block: for a prompt that is given as embeddings.
    """
    return Trace(Tracer(pipeline, sites))
