"""Says in one line why a file could not be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segscale.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained_writes(folder: Path, option: str = "--results") -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line; ``option`` is what names another folder."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = "free some and run the same command again: it resumes"
            raise UserError(f"no space left for {folder}", hint) from error
        raise UserError(f"{folder} cannot be written ({error.strerror})", f"choose another {option}") from error
