"""Files of captions, ``{image: {"caption": text}}``, and the one rule by which their keys name images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segscale.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
WRITE_ONE = "write one with: segscale caption"


def image_key(name: str) -> str:
    """The name of an image without the ending of an image file; other endings belong to the name."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def read_captions(path: Path) -> dict[str, str]:
    """Captions by ``image_key``, from entries ``{"caption": text}`` or plain texts.

    Raises:
        UserError: The file is missing, damaged or of another form, or has two captions for one image.
    """
    captions: dict[str, str] = {}
    for image, entry in read_json_object(path, "captions by image", WRITE_ONE).items():
        text, key = caption_text(entry), image_key(image)
        if text is None:
            raise UserError(f"{path} has no caption under {image!r}", WRITE_ONE)
        if captions.setdefault(key, text) != text:
            raise UserError(f"{path} has two captions for {key!r}", "leave one of them")
    return captions


@dataclass(frozen=True)
class CaptionGaps:
    """What a caption file leaves out of a split, or holds beside it."""

    images: int
    """Of the split."""
    without: int
    """Of these, how many have no caption."""
    empty: int
    """Captions without text, which do not count."""
    strange: int
    """Captions of no image of the split."""

    def __str__(self) -> str:
        """In words; empty where there is nothing to say."""
        told = {
            f"{self.without} of {self.images} images have no caption": self.without,
            f"{self.empty} captions are empty": self.empty,
            f"{self.strange} are of no image": self.strange,
        }
        return ", ".join(text for text, number in told.items() if number)


@dataclass(frozen=True)
class Captions:
    """The captions that a file holds for the images of a split."""

    by_id: dict[str, str]
    gaps: CaptionGaps


def captions_of(ids: Sequence[str], path: str | Path) -> Captions:
    """The captions that a file holds for images; empty ones are none.

    Raises:
        UserError: As ``read_captions``, and where no image has a caption.
    """
    captions = read_captions(Path(path).expanduser())
    empty = {key for key, text in captions.items() if not text.strip()}
    keys = {id: image_key(id) for id in ids}
    by_id = {id: captions[key] for id, key in keys.items() if key in captions and key not in empty}
    if ids and not by_id:
        raise UserError(f"{path} has no caption of any image, such as {ids[0]}", f"name another, or {WRITE_ONE}")
    strange = captions.keys() - set(keys.values())
    return Captions(by_id, CaptionGaps(len(ids), len(ids) - len(by_id), len(empty), len(strange)))


def caption_text(entry: object) -> str | None:
    """The text of an entry, None where it holds none."""
    text = entry.get("caption") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def read_json_object(path: Path, content: str, hint: str) -> dict[str, object]:
    """A JSON object of ``content``. Raises UserError with ``hint`` where the file is missing or holds no such thing."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", hint) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})", hint) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no {content}", hint)
    return value
