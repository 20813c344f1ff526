"""Encoded prompts on disk, so that large text encoders run once per distinct prompt of a whole project."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from segscale.files import explained_writes, replaced_bytes

from .conditioning import Conditioning

log = logging.getLogger(__name__)

TEXT, LENGTH, DIGEST = "text", "text_length", "digest"


class TextCache:
    """A folder with a file for every prompt, named by its content."""

    def __init__(self, folder: Path, encoders: str) -> None:
        """Take the part of ``folder`` that belongs to text encoders.

        Args:
            folder: Shared by all backbones.
            encoders: Everything that decides what encoders make of a text: weights, precision, versions.
        """
        self.folder = folder / _digest(encoders.encode())
        self._top = folder

    def get(self, text: str) -> Conditioning | None:
        """What ``text`` was encoded to, on the CPU; None where it was not, or where its file is damaged."""
        path = self._path(text)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                inputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            metadata, inputs = {}, {}
        if metadata.get(TEXT) != text or metadata.get(DIGEST) != _states_digest(inputs):
            log.warning("%s is damaged; its prompt is encoded again", path)
            return None
        return Conditioning(inputs, int(metadata[LENGTH]))

    def each(self, texts: Iterable[str], device: torch.device) -> dict[str, Conditioning]:
        """Those of ``texts`` that are here, on ``device``."""
        found = {text: self.get(text) for text in texts}
        return {text: row.to(device) for text, row in found.items() if row is not None}

    def put(self, text: str, row: Conditioning) -> None:
        """Keep one encoded prompt. Raises UserError where the folder cannot be written."""
        inputs = {name: value.detach().cpu().contiguous() for name, value in row.inputs.items()}
        metadata = {TEXT: text, LENGTH: str(row.text_length), DIGEST: _states_digest(inputs)}
        with explained_writes(self._top, "--text-cache"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced_bytes(self._path(text)) as file:
                file.write(save(inputs, metadata))

    def _path(self, text: str) -> Path:
        return self.folder / f"{_digest(text.encode())}.safetensors"


def _states_digest(inputs: dict[str, torch.Tensor]) -> str:
    """Of names, kinds and bytes of all states."""
    algorithm = hashlib.sha256()
    for name, value in sorted(inputs.items()):
        algorithm.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        algorithm.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return algorithm.hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
