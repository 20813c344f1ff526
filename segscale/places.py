"""Folders on this machine or in an object store, both as paths.

A path of this machine is a ``pathlib.Path`` and costs nothing more. A URL such as ``s3://bucket/results`` is a
``upath.UPath``, which has the same methods over fsspec; what differs between the two is here and in ``files``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segscale.errors import UserError

EXTRA = "in the clone: pip install -e '.[object-stores]'"
LOCAL = ("file", "local")
CLIENTS = frozenset(("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"))
"""Packages below fsspec whose errors say that a store cannot be reached, or what it refuses; they are no OSErrors."""


def place(text: str) -> Path:
    """The path that ``text`` names, or the place in an object store.

    Listings are never taken from a cache, because other machines write at the same time.

    Raises:
        UserError: For a URL whose store cannot be reached, or that needs a package that is not installed.
    """
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if protocol in LOCAL:
        return Path(rest)
    try:
        found = importlib.import_module("upath").UPath(text, use_listings_cache=False)
        found.exists()
    except ImportError as error:
        raise UserError(f"{text} needs a package that is not installed ({error})", EXTRA) from error
    except Exception as error:  # of any client library
        reason = str(error).partition("\n")[0] or type(error).__name__
        hint = "check the address, and the credentials in the environment"
        raise UserError(f"{text} cannot be reached ({reason})", hint) from error
    return found


def is_remote(path: Path) -> bool:
    """Whether ``path`` is in an object store."""
    return not isinstance(path, Path)


def created(path: Path, content: bytes) -> bool:
    """Write a small file that is not there yet; False, and nothing is written, where it is.

    Of a file system and of S3 it is atomic: of many processes, one creates it.
    """
    try:
        if is_remote(path):
            _file_system(path).pipe_file(_key(path), content, mode="create")
            return True
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
    except BaseException:  # a full disk, or a signal
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return True


def is_of_client(error: BaseException) -> bool:
    """Whether the client library of an object store raised it."""
    return type(error).__module__.partition(".")[0] in CLIENTS


@contextmanager
def passed_over_where_away() -> Iterator[None]:
    """Pass over what a disk or a store raises that is away."""
    try:
        yield
    except OSError:
        pass
    except Exception as error:
        if not is_of_client(error):
            raise


def touch(path: Path) -> None:
    """Set the time of change to now, by the clock of the disk or store. Raises OSError where there is no file."""
    if is_remote(path):
        path.write_bytes(path.read_bytes())
    else:
        os.utime(path)


def children(folder: Path) -> Iterator[Path]:
    """Files and folders in ``folder``, none where it is not there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from folder.iterdir()


def make_folder(folder: Path) -> None:
    """Create it and those above, where there are folders at all."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove an empty folder. Raises OSError for one that is not empty, where there are folders at all."""
    if not is_remote(folder):
        folder.rmdir()


def _file_system(path: Any) -> Any:
    return path.fs


def _key(path: Any) -> str:
    return path.path
