"""Files are written whole or not at all, and one line says why one could not be written."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, TextIO

from segscale.errors import UserError
from segscale.places import is_remote

LEFTOVER_SECONDS = 3600
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained_writes(folder: Path, option: str = "--results") -> Iterator[None]:
    """Turn a full disk or a forbidden folder into a UserError; ``option`` is the one that names another folder."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            hint = "free some and run the same command again: it resumes"
            raise UserError(f"no space left for {folder}", hint) from error
        reason = error.strerror or str(error)
        raise UserError(f"{folder} cannot be written ({reason})", f"choose another {option}") from error


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove files that ended processes left behind, whoever they were; young ones may belong to a running one."""
    for path in paths:
        with suppress(FileNotFoundError):  # its process, or another one that starts, was faster
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that replaces ``path``, flushed to the disk, when the block ends without an error."""
    with replaced_bytes(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        yield text
        text.detach()


@contextmanager
def replaced_bytes(path: Path, flushes: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends without an error.

    Args:
        path: Local or remote.
        flushes: Wait for the disk. What is checked when it is read, and can be made anew, need not wait.

    Raises:
        UserError: For a folder or a device. A link stays, and what it names is replaced.
    """
    if is_remote(path):  # a put is whole or not at all
        buffer = io.BytesIO()
        yield buffer
        path.write_bytes(buffer.getvalue())
        return
    path = _behind_link(path)
    temporary = path.with_name(f".{path.name}-{token_hex(8)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if flushes:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _behind_link(path: Path) -> Path:
    """The file that ``path`` is or names. Raises UserError for what is there and is no file."""
    try:
        named = path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError):  # links that name each other; what is raised depends on Python's version
        named = path.parent
    if named.exists() and not named.is_file():
        raise UserError(f"{path} is no file that could be replaced", "name another")
    return named


def json_checksum(content: Mapping[str, object]) -> str:
    """64 bits of SHA-256 over JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
