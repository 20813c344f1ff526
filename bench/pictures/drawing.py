"""Draws masks and scores over a picture.

Everything is 8-bit, and made by Pillow in strips, so that a picture of many million pixels takes little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...datasets.labels import Colour

OPACITY = 0.55
HEAT_OPACITY = 0.75
"""Where the score is 1; it falls with the score, so that the picture is seen where there is none."""
HEAT_COLOURS = "inferno"
STRIP_ROWS = 256
TEXT_SHARE, TEXT_MIN = 1 / 40, 12
"""Height of the legend's text, of the picture's longest edge, and in pixels at least."""
FONT = "fonts/ttf/DejaVuSans.ttf"
"""Comes with matplotlib, and has letters of many scripts."""


def tinted(picture: Image.Image, labels: NDArray[np.integer], colours: Sequence[Colour]) -> Image.Image:
    """The picture, with every class in shades of its own colour; label 0 is left as it is."""
    palette = np.array(colours, np.uint8)

    def draw(part: Image.Image, rows: slice) -> Image.Image:
        tint, shown = Image.fromarray(palette[labels[rows]]), Image.fromarray((labels[rows] > 0) * np.uint8(255))
        # Over grey, so that no colour of the picture makes one class look like another.
        return Image.composite(Image.blend(_grey(part), tint, OPACITY), part, shown)

    return _drawn(picture, draw)


def heated(picture: Image.Image, scores: NDArray[np.float32]) -> Image.Image:
    """The picture in grey with scores in [0, 1] over it, smooth whatever their resolution."""
    values = Image.fromarray((np.nan_to_num(scores).clip(0, 1) * 255).round().astype(np.uint8))
    palette = (mpl.colormaps[HEAT_COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()
    opacity = [round(HEAT_OPACITY * value) for value in range(256)]
    step = values.height / picture.height

    def draw(part: Image.Image, rows: slice) -> Image.Image:
        box = (0, rows.start * step, values.width, min(rows.stop * step, values.height))
        heat = values.resize(part.size, Image.Resampling.BICUBIC, box)
        shown = heat.point(opacity)
        heat.putpalette(palette)
        return Image.composite(heat.convert("RGB"), _grey(part), shown)

    return _drawn(picture, draw)


def cut_out(picture: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """The masked pixels; all others are transparent and black, which takes no space in a file."""
    alpha = Image.fromarray(mask * np.uint8(255))
    cut = Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size), alpha)
    cut.putalpha(alpha)
    return cut


def _drawn(picture: Image.Image, draw: Callable[[Image.Image, slice], Image.Image]) -> Image.Image:
    """The picture drawn anew, some rows at a time."""
    whole = Image.new("RGB", picture.size)
    for first in range(0, picture.height, STRIP_ROWS):
        rows = slice(first, min(first + STRIP_ROWS, picture.height))
        part = picture.crop((0, rows.start, picture.width, rows.stop)).convert("RGB")
        whole.paste(draw(part, rows), (0, first))
    return whole


def _grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L").convert("RGB")


@dataclass(frozen=True)
class _Entry:
    """A name of the legend and where its line begins, from the legend's upper left corner."""

    name: str
    colour: Colour
    place: tuple[int, int]


def with_legend(picture: Image.Image, classes: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture above its legend: names beside their colours, in as many lines as they need."""
    size = max(TEXT_MIN, round(TEXT_SHARE * max(picture.size)))
    font = _font(size)
    entries = [*_placed(classes, font, size, picture.width)]
    height = max((entry.place[1] for entry in entries), default=0) + round(1.75 * size)
    whole = Image.new("RGB", (picture.width, picture.height + height), "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for entry in entries:
        x, y = entry.place[0], picture.height + entry.place[1]
        draw.rectangle((x, y, x + size, y + size), entry.colour, outline="black", width=max(1, size // 16))
        draw.text((x + round(1.4 * size), y + size), entry.name, "black", font, anchor="ld")
    return whole


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture above its caption, in letters that fit it."""
    size = max(TEXT_MIN, round(1.6 * TEXT_SHARE * max(picture.size)))
    whole = Image.new("RGB", (picture.width, picture.height + round(1.6 * size)), "white")
    whole.paste(picture)
    place = (picture.width // 2, picture.height + round(1.2 * size))
    ImageDraw.Draw(whole).text(place, caption, "black", _font(size), anchor="ms")
    return whole


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height in a row, a little apart."""
    gap = max(2, pictures[0].width // 40)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + gap
    return whole


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path(), FONT)), size)


def _placed(
    classes: Sequence[tuple[str, Colour]], font: ImageFont.FreeTypeFont, size: int, width: int
) -> Iterator[_Entry]:
    gap = size // 2
    x = y = gap
    for name, colour in classes:
        length = round(1.4 * size + font.getlength(name))
        if x > gap and x + length > width:
            x, y = gap, y + round(1.5 * size)
        yield _Entry(name, colour, (x, y))
        x += length + size
