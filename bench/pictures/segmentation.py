"""Masks of one picture, as a value that shows itself."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from segscale.errors import UserError, did_you_mean
from segscale.prompt import BACKGROUND

from ...datasets.colours import class_colours
from ...datasets.labels import IGNORE_LABEL, Colour
from ..evaluation.labelling import resize_scores
from . import drawing

PALETTE_COLOURS = 256
NOTEBOOK_EDGE = 480
"""The longest edge of the picture in a notebook."""

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, repr=False)
class Segmentation:
    """Masks of one picture."""

    image: Image.Image
    names: tuple[str, ...]
    labels: Labels
    """``(height, width)`` at image size, 0 = background, ``i`` = ``names[i - 1]``; uint16 beyond 255 classes."""
    score_maps: NDArray[np.float32]
    """``(classes, h, w)`` as the method gave them, in [0, 1]."""
    palette: tuple[Colour, ...] = ()
    """Colours of background and every name, where somebody chose them."""
    ignored: Colour | None = None
    """The colour of label 255, which no method gives, for those who correct masks."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """``(classes, height, width)`` at image size; large pictures have much of it, so it is made when asked for."""
        return resize_scores(torch.from_numpy(self.score_maps), self.labels.shape).numpy()

    @cached_property
    def areas(self) -> dict[str, int]:
        """Pixels per name, background first."""
        # Row by row, as counting takes a copy in 64 bits.
        counts = np.sum([np.bincount(row, minlength=len(self.names) + 1) for row in self.labels], 0)
        return {name: int(count) for name, count in zip((BACKGROUND, *self.names), counts, strict=True)}

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Of background and every name."""
        return self.palette or class_colours(len(self.names) + 1)

    def indexed(self) -> Image.Image:
        """The labels as a palette image, or as 16-bit grey beyond 255 classes."""
        image = Image.fromarray(self.labels)
        if self.labels.dtype == np.uint8:
            image.putpalette([value for colour in self._whole_palette() for value in colour])
        return image

    def _whole_palette(self) -> Sequence[Colour]:
        whole = [*self.colours, *class_colours(PALETTE_COLOURS - 1)[len(self.colours) :]]
        if self.ignored is not None:
            whole[IGNORE_LABEL:] = [self.ignored]
        return whole

    def overlay(self, legend: bool = False) -> Image.Image:
        """The picture with every class tinted and background left as it is; with a legend below where asked for."""
        picture = drawing.tinted(self.image, self.labels, self.colours)
        return drawing.with_legend(picture, self._legend()) if legend else picture

    def heat(self, name: str) -> Image.Image:
        """The scores of a class as colours over the picture, from none (0) over purple and red to yellow (1)."""
        return drawing.heated(self.image, self.score_maps[self._place(name)])

    def cutout(self, name: str) -> Image.Image:
        """The pixels of a class, all others transparent."""
        return drawing.cut_out(self.image, self.labels == 1 + self._place(name))

    def _place(self, name: str) -> int:
        """Raises UserError for what was not looked for."""
        if name not in self.names:
            raise UserError(f"there is no class {name!r}", did_you_mean(name, self.names))
        return self.names.index(name)

    def _legend(self) -> Sequence[tuple[str, Colour]]:
        return [*zip(self.names, self.colours[1:], strict=True)]

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {100 * pixels / self.labels.size:.1f} %" for name, pixels in self.areas.items())
        return f"Segmentation({self.image.width} x {self.image.height}, {shares})"

    def _repr_html_(self) -> str:
        """A small overlay beside names, colours and shares, for notebooks."""
        small = self.overlay()
        small.thumbnail((NOTEBOOK_EDGE, NOTEBOOK_EDGE))
        file = io.BytesIO()
        small.save(file, "PNG")
        source = base64.b64encode(file.getvalue()).decode()
        rows = "".join(
            f'<tr><td style="background:#{bytes(colour).hex()};width:1.5em"></td><td>{html.escape(name)}</td>'
            f"<td>{100 * pixels / self.labels.size:.1f} %</td></tr>"
            for (name, pixels), colour in zip(self.areas.items(), self.colours, strict=True)
        )
        return f'<img src="data:image/png;base64,{source}" alt="{html.escape(repr(self))}"><table>{rows}</table>'

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write overlay, labels, heat maps and a JSON of names and areas, as ``segscale predict`` does.

        Raises:
            UserError: The folder cannot be written.
        """
        from .files import DEFAULT_KINDS, write_segmentation

        return write_segmentation(self, Path(folder), stem, DEFAULT_KINDS)
