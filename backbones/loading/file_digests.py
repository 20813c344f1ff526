"""Digests of large files: each is read whole once, and remembered by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from segscale.files import replaced

VARIABLE = "SEGSCALE_CACHE"
DIGEST_BYTES = 16


def digest(path: Path) -> str:
    """BLAKE2b over the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def cache_file() -> Path:
    """Where digests are remembered: below ``SEGSCALE_CACHE``, else in the user's folder for caches."""
    own, shared = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else Path(shared or Path.home() / ".cache") / "segscale"
    return folder / "file-digests.json"


def remembered_digests(paths: list[Path]) -> list[str]:
    """The digest of every file. A cache that cannot be read or written costs time and nothing else."""
    keys = [_key(path) for path in paths]
    known = _read()
    new = {key: digest(path) for key, path in zip(keys, paths, strict=True) if key not in known}
    if new:
        _write(new)
    return [(known | new)[key] for key in keys]


def _key(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _read() -> dict[str, str]:
    try:
        known = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if isinstance(value, str) and len(value) == 2 * DIGEST_BYTES}


def _write(new: dict[str, str]) -> None:
    """Add to what other processes have written meanwhile; entries of files that changed or went since go."""
    entries = {key: value for key, value in _read().items() if key not in new} | new
    paths = {key.rsplit(":", 2)[0]: key for key in entries}
    with suppress(OSError):
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        with replaced(cache_file()) as file:
            json.dump({key: entries[key] for path, key in paths.items() if Path(path).exists()}, file, indent=1)
