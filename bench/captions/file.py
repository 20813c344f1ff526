"""The caption file of GoCA, ``{image: {"caption": text}}``, and beside it a record of who wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segscale.errors import UserError
from segscale.files import explained_writes, replaced

from .captioner import shown


class CaptionFile:
    """Captions by image, rewritten as a whole under a temporary name, so a kill leaves the last whole one.

    origin: everything that decides what the captions say. It is stored as ``<name>.origin.json``; a file of
    another origin is not continued. A file without that record, made elsewhere, is.
    Raises UserError for a damaged file or another origin.
    """

    def __init__(self, path: Path, origin: dict[str, Any]) -> None:
        self.path = path
        self._record = path.with_suffix(".origin.json")
        self._captions = _read(path, _is_caption)
        self._names = {_stem(key) for key in self._captions} | self._captions.keys()
        self._origin = None if self._captions else origin
        stored = _read(self._record, lambda _: True) if self._captions else {}
        for key in origin:
            if key in stored and stored[key] != origin[key]:
                what = f"{path} was written with another {key}: {shown(str(stored[key]))}"
                raise UserError(what, "choose another --output")

    def __len__(self) -> int:
        return len(self._captions)

    def __contains__(self, image: str) -> bool:
        """Whether there is a caption for the image id, under its file name or without the ending."""
        return image in self._names

    def add(self, image: str, caption: str) -> None:
        self._captions[image] = {"caption": caption}
        self._names.add(image)

    def save(self) -> None:
        """Write record and captions, sorted, durably."""
        with explained_writes(self.path.parent, "--output"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._origin is not None:
                _replace(self._record, self._origin)
                self._origin = None
            _replace(self.path, self._captions)


def _stem(key: str) -> str:
    return key.rpartition(".")[0] or key


def _is_caption(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("caption"), str)


def _read(path: Path, valid: Callable[[Any], bool]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "choose another --output") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})", "remove it or choose another --output") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no captions by image", "remove it or choose another --output")
    for key, entry in content.items():
        if not valid(entry):
            raise UserError(f"{path} has no caption under {key!r}", "remove it or choose another --output")
    return content


def _replace(path: Path, content: dict[str, Any]) -> None:
    with replaced(path) as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.write("\n")
