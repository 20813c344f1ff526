"""Predicted label maps, kept beside the counts of a run where they are asked for.

``masks/<image>.png`` holds class ids in the order of stored counts, 255 where nothing is predicted, in the dataset's
colours. ``gallery/`` has a small picture and label of the first of these images, so that a report needs no dataset.
Every PNG says its image, because the name of a file has room for 255 bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segscale.errors import UserError
from segscale.files import explained_writes, replaced_bytes
from segscale.places import make_folder

from ...datasets.files import FileError, digest, read_ids, read_image
from ...datasets.labels import IGNORE_LABEL, VALUES, Colour, LabelTable

if TYPE_CHECKING:
    from ...datasets.dataset import Sample
    from ..inference.answers import MethodScores
    from ..tasks.task import Task

log = logging.getLogger(__name__)

PICTURES = 24
"""Images in ``gallery/`` at most."""
PICTURE_EDGE = 240
"""The longest edge of a picture there, in pixels."""
IGNORED_COLOUR: Colour = (224, 224, 224)
LONGEST_STEM, CUT_STEM = 229, 180
"""Bytes of a file's name, without what an ending and a temporary name add; longer ones are cut."""
CUT = "="
"""Between the beginning of a cut name and a digest; ``quote`` leaves it in no name."""
NAME_KEY = "image"
"""Of the text in a PNG."""


def mask_path(folder: Path, image: str) -> Path:
    """The predicted label map of an image, below the folder of its run."""
    return folder / "masks" / f"{_file_stem(image)}.png"


def picture_path(folder: Path, image: str) -> Path:
    """The small picture of an image."""
    return folder / "gallery" / f"{_file_stem(image)}.jpg"


def label_path(folder: Path, image: str) -> Path:
    """The label of an image, as large as its picture."""
    return folder / "gallery" / f"{_file_stem(image)}.png"


def pictured_images(folder: Path) -> list[str]:
    """Ids of the images that have a mask, a picture and a label, in order. Raises FileError, see ``_image_of``."""
    images = sorted(map(_image_of, folder.glob("gallery/[!.]*.png")))
    return [image for image in images if mask_path(folder, image).exists() and picture_path(folder, image).exists()]


def masked_images(folder: Path) -> list[str]:
    """Ids of the images of a run that have a mask, in order. Raises FileError, see ``_image_of``."""
    return [*map(_image_of, sorted(folder.glob("masks/[!.]*.png")))]


def kept_masks(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every image of a run that has a mask, in order, with its predicted class ids; 255 where nothing is predicted.

    Raises:
        FileError: For a damaged mask.
    """
    for image in masked_images(folder):
        yield image, read_ids(mask_path(folder, image), None, LabelTable.consecutive(IGNORE_LABEL))


def no_masks(folder: Path) -> UserError:
    """What is said of a run without masks where they are needed."""
    return UserError(f"{folder} has no masks", "keep some: segscale run --save-masks, with another --results")


def write_label_map(path: Path, ids: NDArray[np.uint8], palette: Sequence[Colour], name: str = "") -> None:
    """Write class ids, and the name of their image, as an indexed PNG."""
    image, text = Image.fromarray(ids), PngInfo()
    image.putpalette([part for colour in _whole_palette(palette) for part in colour])
    text.add_text(NAME_KEY, name)
    with replaced_bytes(path) as file:
        image.save(file, "PNG", optimize=True, pnginfo=text)


class MaskKeeper:
    """Keeps the label maps of the first images of a task."""

    def __init__(self, task: Task, count: int | None) -> None:
        """Raises UserError where the task has no label map before its last image.

        Args:
            task: What is predicted.
            count: Of the images; None for all, 0 for none.
        """
        chosen = task.dataset.ids[:count]
        if chosen:
            _check(task)
        self.task = task
        self.images = frozenset(chosen)
        self.pictured = frozenset(chosen[:PICTURES])

    def warn_of_stored(self, folder: Path, stored: Collection[str]) -> None:
        """Say how many images were stored without a mask, which they will not get."""
        without = [image for image in self.images.intersection(stored) if not mask_path(folder, image).exists()]
        if without:
            log.warning("%s has %d images without mask; masks come with another --results", folder, len(without))

    def keep(self, folder: Path, sample: Sample, answer: MethodScores) -> None:
        """Write what is kept of an image, if anything is."""
        if sample.id not in self.images:
            return
        height, width = sample.label.shape
        ids = self.task.label_map(answer.scores, answer.prompts.class_ids, (height, width)).astype(np.uint8)
        with explained_writes(folder):
            self._write(mask_path(folder, sample.id), ids, sample.id)
            if sample.id in self.pictured:
                self._keep_picture(folder, sample)

    def _keep_picture(self, folder: Path, sample: Sample) -> None:
        picture = sample.image.convert("RGB")
        picture.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
        label = Image.fromarray(self.task.target_label(sample.label)).resize(picture.size, Image.Resampling.NEAREST)
        self._write(label_path(folder, sample.id), np.asarray(label), sample.id)
        with replaced_bytes(picture_path(folder, sample.id)) as file:
            picture.save(file, "JPEG", quality=85)

    def _write(self, path: Path, ids: NDArray[np.uint8], image: str) -> None:
        make_folder(path.parent)
        write_label_map(path, ids, self.task.dataset.palette, image)


def _check(task: Task) -> None:
    protocol, hint = task.protocol, "leave --save-masks out, or use --protocol standard"
    if protocol.matching is not None:
        raise UserError(f"{protocol.name} matches clusters without names, which are no masks of classes", hint)
    if isinstance(protocol.threshold, str):
        raise UserError(f"{protocol.name} chooses its threshold after the last image, too late for masks", hint)


def _whole_palette(palette: Sequence[Colour]) -> list[Colour]:
    rest = [(0, 0, 0)] * (VALUES - len(palette))
    whole = [*palette, *rest]
    whole[IGNORE_LABEL] = IGNORED_COLOUR
    return whole


def _file_stem(image: str) -> str:
    """The id with all but letters, digits and a few marks as %XX, so that it is the name of one file; cut if long."""
    stem = quote(image, safe="").replace(".", "%2E")
    return stem if len(stem) <= LONGEST_STEM else f"{stem[:CUT_STEM]}{CUT}{digest(image.encode())}"


def _image_of(path: Path) -> str:
    """The image of a PNG. Raises FileError for one whose name is cut and that does not say it."""
    if CUT not in path.stem:
        return unquote(path.stem)
    name = read_image(path).info.get(NAME_KEY)
    if name is None:
        raise FileError("damaged", f"{path} does not say which image it is of")
    return str(name)
