"""Which weights a backbone runs with: what a run's identity says of them, and how to load exactly these."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from .options import LoadOptions
from .pretrained import explained, refuse_revision, resolve_weights

HASHED = (".json", ".safetensors", ".txt", ".model")
SAMPLED_ABOVE = 64 * 2**20
SAMPLES = 64
SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class WeightsId:
    """The identity of weights."""

    text: str
    """``<hub id>@<commit>``, or a hash over the files of a folder."""
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
    """Hash over the files of a folder, of large ones over evenly spaced samples."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in HASHED):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}:{size}".encode())
        with path.open("rb") as file:
            if size <= SAMPLED_ABOVE:
                digest.update(file.read())
                continue
            for sample in range(SAMPLES):
                file.seek(sample * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
