"""The caption file that ``segscale caption`` writes, and beside it a record of its writer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from segscale.errors import UserError
from segscale.files import explained_writes, replaced

from ...datasets.prompts.caption_file import CaptionTexts, caption_text, captions_by_key, read_json_object
from .captioner import one_line

OTHER_OUTPUT = "choose another --output"


class CaptionFile:
    """Captions by image, ``{image: {"caption": text}}``, replaced as a whole, so that a kill leaves the last one."""

    def __init__(self, path: Path, origin: Mapping[str, object]) -> None:
        """Read the captions that are there.

        Args:
            path: The file, which need not exist.
            origin: Everything that decides what captions say, stored as ``<name>.origin.json``. A file without that
                record was made elsewhere and is continued; a value that a record lacks counts as none.

        Raises:
            UserError: The file is damaged, or a writer of another origin wrote it.
        """
        self.path = path
        self._record = path.with_suffix(".origin.json")
        entries = _read(path, "captions by image")
        for image, entry in entries.items():
            if not isinstance(entry, dict) or caption_text(entry) is None:
                raise UserError(f"{path} has no caption under {image!r}", f"remove it or {OTHER_OUTPUT}")
        # An empty caption is none, so its image is asked about again.
        self._entries = {image: entry for image, entry in entries.items() if str(caption_text(entry)).strip()}
        self._origin = None if self._entries else origin
        stored = _read(self._record, "record of a writer") if self._entries else {}
        for key in origin if stored else ():
            if stored.get(key) != origin[key]:
                raise UserError(f"{path} was written with another {key}: {_shown(stored.get(key))}", OTHER_OUTPUT)

    def __len__(self) -> int:
        return len(self._entries)

    def captioned(self, ids: Sequence[str]) -> frozenset[str]:
        """The images of a split that have a caption, as ``captions_of`` finds it. Raises UserError for two of one."""
        return frozenset(CaptionTexts(self.path, captions_by_key(self.path, self._entries)).keys_of(ids))

    def add(self, image: str, caption: str) -> None:
        """Keep the caption of an image until the file is saved."""
        self._entries[image] = {"caption": caption}

    def save(self) -> None:
        """Write record and captions, sorted by image. Raises UserError where that is impossible."""
        with explained_writes(self.path.parent, "--output"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._origin is not None:
                _replace(self._record, self._origin)
                self._origin = None
            _replace(self.path, self._entries)


def _read(path: Path, content: str) -> dict[str, object]:
    return read_json_object(path, content, f"remove it or {OTHER_OUTPUT}") if path.exists() else {}


def _shown(value: object) -> str:
    return "none" if value is None else one_line(str(value))


def _replace(path: Path, content: Mapping[str, object]) -> None:
    with replaced(path) as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.write("\n")
