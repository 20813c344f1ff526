"""The files of a run's parts: each appears whole under a name of its own, on a file system or in an object store."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from segscale.files import remove_leftovers
from segscale.places import children, created, is_remote

SUFFIX = ".parquet"
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links answer."""
NO_FLUSH = (errno.EINVAL, errno.EBADF)
"""What shares that cannot flush a folder answer, such as older CIFS."""
Write = Callable[[BinaryIO], None]


class PartFiles:
    """Parts on a file system: written to a temporary name, flushed and linked to the final one, without locks."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Name the folder, and the rank of this process, which begins the names of its parts."""
        self.folder, self.rank = folder, rank

    def create(self) -> None:
        """Make the folder, and remove what ended processes left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder.glob(".*.tmp"))

    def paths(self) -> list[Path]:
        """All parts, in a stable order."""
        return sorted(self.folder.glob(f"[!.]*{SUFFIX}"))

    def key(self, path: Path) -> tuple[str, int]:
        """Tells this part from any other that ever has its name. Raises FileNotFoundError for one that is gone."""
        return path.name, path.stat().st_mtime_ns

    def write(self, write: Write, mark: str = "") -> Path:
        """Write a part durably under a free name, with ``mark`` before its suffix; its path."""
        temporary = self.folder / f".{self.rank}-{token_hex(8)}.tmp"
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            path = self._named(temporary, mark)
            _flush_folder(self.folder)
            return path
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove parts, in this order, durably."""
        for path in paths:
            path.unlink(missing_ok=True)
        _flush_folder(self.folder)

    def set_aside(self, path: Path) -> Path:
        """Rename a part so that it counts no more. Raises OSError where that is refused."""
        aside = path.with_suffix(f"{SUFFIX}.damaged")
        path.replace(aside)
        return aside

    def _named(self, temporary: Path, mark: str) -> Path:
        """Give a temporary file the first free name."""
        for path in self._free_names(mark):
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                # Nobody else renames a part to this name, so none is overwritten.
                name, _, rest = path.name.partition(".")
                path = path.with_name(f"{name}-{token_hex(8)}.{rest}")
                temporary.rename(path)
            return path
        raise AssertionError("names never end")

    def _free_names(self, mark: str) -> Iterator[Path]:
        names = [path.name for path in children(self.folder) if path.name.startswith(f"{self.rank}-")]
        numbers = (name.partition(".")[0].split("-")[1] for name in names if SUFFIX in name)
        sequence = max((int(number) for number in numbers if number.isdecimal()), default=-1)
        while True:
            sequence += 1
            yield self.folder / f"{self.rank}-{sequence:06d}{mark}{SUFFIX}"


class PartObjects(PartFiles):
    """Parts in an object store, where a put is atomic and there are no links, no folders and nothing to flush."""

    def create(self) -> None:
        """There is nothing to make."""

    def paths(self) -> list[Path]:
        named = (path for path in children(self.folder) if path.name.endswith(SUFFIX) and path.name[0] != ".")
        return sorted(named, key=lambda path: path.name)

    def key(self, path: Path) -> tuple[str, int]:
        """A part never changes; to ask for its time would be a request more."""
        return path.name, 0

    def write(self, write: Write, mark: str = "") -> Path:
        buffer = io.BytesIO()
        write(buffer)
        # A store may replace what exists, and all processes without a launcher have the same rank.
        for path in self._free_names(f"-{token_hex(8)}{mark}"):
            if created(path, buffer.getvalue()):
                return path
        raise AssertionError("names never end")

    def remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def set_aside(self, path: Path) -> Path:
        aside = path.with_suffix(f"{SUFFIX}.damaged")
        path.rename(aside)
        return aside


def part_files(folder: Path, rank: int) -> PartFiles:
    """The parts of ``folder``: files on a file system, objects in an object store."""
    return (PartObjects if is_remote(folder) else PartFiles)(folder, rank)


def _flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(descriptor)
