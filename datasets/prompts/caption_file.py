"""Files of captions, ``{image: {"caption": text}}``, and the one rule by which their keys name images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from segscale.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
WRITE_ONE = "write one with: segscale caption"


def image_key(name: str) -> str:
    """The path of an image without the ending of an image file; other endings belong to the name."""
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def read_captions(path: Path) -> dict[str, str]:
    """Captions by ``image_key``, from entries ``{"caption": text}`` or plain texts.

    Raises:
        UserError: The file is missing, damaged or of another form, or has two captions for one image.
    """
    return captions_by_key(path, read_json_object(path, "captions by image", WRITE_ONE))


def captions_by_key(path: Path, entries: Mapping[str, object]) -> dict[str, str]:
    """The captions of the entries of a file. Raises UserError for one without text, or two of one image."""
    captions: dict[str, str] = {}
    for image, entry in entries.items():
        text, key = caption_text(entry), image_key(image)
        if text is None:
            raise UserError(f"{path} has no caption under {image!r}", WRITE_ONE)
        if captions.setdefault(key, text) != text:
            raise UserError(f"{path} has two captions for {key!r}", "leave one of them")
    return captions


@dataclass(frozen=True)
class CaptionTexts:
    """The captions of a file, and which images they are of."""

    path: Path
    captions: Mapping[str, str]
    """By ``image_key``; empty ones are none."""

    @cached_property
    def texts(self) -> dict[str, str]:
        """The captions that are not empty."""
        return {key: text for key, text in self.captions.items() if text.strip()}

    @classmethod
    def read(cls, path: Path) -> CaptionTexts:
        """As ``read_captions``."""
        return cls(path, read_captions(path))

    def text_of(self, image: str) -> str | None:
        """The caption of an image whose name no other image has; None where it has none."""
        return next((self.texts[key] for key in self.keys_of([image]).values()), None)

    def keys_of(self, ids: Sequence[str]) -> dict[str, str]:
        """The keys of the captions of a split's images, by id.

        A key names the image of its path. Where no other image of the split has the same name in another folder, a key
        that has fewer folders than the id, or more before it, names it, too.

        Raises:
            UserError: Two captions are of one image.
        """
        keys = {id: image_key(id) for id in ids}
        images = Counter(_last_part(key) for key in set(keys.values()))
        found = {id: self._key(key, alone=images[_last_part(key)] == 1) for id, key in keys.items()}
        return {id: key for id, key in found.items() if key is not None}

    def _key(self, image: str, alone: bool) -> str | None:
        if image in self.texts:
            return image
        if not alone:
            return None
        near = [key for key in self._by_last_part.get(_last_part(image), []) if _ends_alike(key, image)]
        if len({self.texts[key] for key in near}) > 1:
            raise UserError(f"{self.path} has two captions for {image!r}", "leave one of them")
        return near[0] if near else None

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        keys: dict[str, list[str]] = {}
        for key in self.texts:
            keys.setdefault(_last_part(key), []).append(key)
        return keys


def _last_part(key: str) -> str:
    return key.rpartition("/")[2]


def _ends_alike(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


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
    file = CaptionTexts.read(Path(path).expanduser())
    keys = file.keys_of(ids)
    by_id = {id: file.texts[key] for id, key in keys.items()}
    if ids and not by_id:
        raise UserError(f"{path} has no caption of any image, such as {ids[0]}", f"name another, or {WRITE_ONE}")
    empty, strange = len(file.captions) - len(file.texts), len(file.texts.keys() - set(keys.values()))
    return Captions(by_id, CaptionGaps(len(ids), len(ids) - len(by_id), empty, strange))


def caption_text(entry: object) -> str | None:
    """The text of an entry, None where it holds none."""
    text = entry.get("caption") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def read_json_object(path: Path, content: str, hint: str) -> dict[str, object]:
    """A JSON object of ``content``. Raises UserError with ``hint`` where the file is missing or holds no such thing."""
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", hint) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})", hint) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no {content}", hint)
    return value
