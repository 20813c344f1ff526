"""Reads pickles of plain values, without running any code that they name."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import NoReturn

from .files import FileError, check_regular, missing_file, names_in

Plain = None | bool | int | float | str | bytes | list["Plain"] | tuple["Plain", ...] | dict[str, "Plain"]


class _PlainUnpickler(pickle.Unpickler):
    """Knows numbers, texts, lists, tuples, sets and dictionaries; whatever is named beside these is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


def read_plain_pickle(path: Path) -> Plain:
    """Read a pickle of Python 2 or 3 that holds nothing but plain values.

    Raises:
        FileError: It is missing or damaged, or would import something: nothing of it is run.
    """
    try:
        check_regular(path)
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise missing_file(path, names_in(path.parent)) from error
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise FileError("damaged", f"{path} is damaged, or no pickle of plain values ({error})") from error
