"""Which weights a backbone runs with: what a run's identity says of them, and how to load exactly these."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from .file_digests import digest, remembered_digests
from .options import LoadOptions
from .pretrained import explained, refuse_revision, resolve_weights

TENSORS = ".safetensors"
READ_SUFFIXES = (TENSORS, ".json", ".model")
# Of tokenizers; other texts, such as licences, are read by no loader.
READ_NAMES = ("merges.txt", "vocab.txt")


@dataclass(frozen=True)
class WeightsId:
    """The identity of weights."""

    text: str
    """``<hub id>@<commit>``, or a hash over all bytes of a folder's files that a loader reads."""
    commit: str | None = None
    """Commit of the hub repository, None for a folder."""

    def load_options_at_commit(self, load: LoadOptions) -> LoadOptions:
        """Return loading options at this very commit."""
        return load if self.commit is None else replace(load, revision=self.commit)


def weights_id(weights: str, load: LoadOptions, marker: str = "model_index.json") -> WeightsId:
    """Identify weights at the revision of ``load``; they must have the small file ``marker``."""
    source = Path(resolve_weights(weights, marker))
    if source.is_dir():
        refuse_revision(weights, load)
        return WeightsId(_folder_hash(source))
    commit = _hub_commit(weights, load, marker)
    return WeightsId(f"{weights}@{commit}", commit)


def _hub_commit(repository: str, load: LoadOptions, marker: str) -> str:
    """Commit of a repository's revision, by the snapshot that one of its small files is in."""
    return hub_file(repository, marker, load.revision, load.offline).parents[marker.count("/")].name


def hub_file(repository: str, name: str, revision: str | None, offline: bool, option: str = "--weights") -> Path:
    """A file of a hub repository. A cached revision is taken as it is; ``hf download`` brings a newer one.

    Raises:
        UserError: At once where the hub is not reached. Downloads would be tried again for half a minute first.
    """
    with explained(repository, repository, option):
        path = try_to_load_from_cache(repository, name, revision=revision)
        if not isinstance(path, str):
            if not offline:
                _reach_hub(hf_hub_url(repository, name, revision=revision))
            path = hf_hub_download(repository, name, revision=revision, local_files_only=offline)
    return Path(path)


def _reach_hub(url: str) -> None:
    """Raise what the hub answers, or that it does not."""
    try:
        get_hf_file_metadata(url)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        raise
    except Exception as error:
        raise LocalEntryNotFoundError(f"no answer from {url}") from error


def _folder_hash(folder: Path) -> str:
    """Hash over the files of a folder that a loader reads, links followed; large ones are read once."""
    total = hashlib.sha256()
    files = sorted(_read_files(folder))
    tensors = [path for path in files if path.suffix == TENSORS]
    digests = dict(zip(tensors, remembered_digests(tensors), strict=True))
    for path in files:
        total.update(f"{path.relative_to(folder)}:{digests.get(path) or digest(path)}\n".encode())
    return total.hexdigest()[:16]


def _read_files(folder: Path) -> Iterator[Path]:
    """Files that a loader may read, below a folder and the folders that it links to."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not _encloses(Path(parent, name), parent)
        ]
        yield from (Path(parent, name) for name in names if name in READ_NAMES or Path(name).suffix in READ_SUFFIXES)


def _encloses(folder: Path, inner: str) -> bool:
    """Whether a link leads back up, so that following it would never end."""
    return Path(inner).resolve().is_relative_to(folder.resolve())
