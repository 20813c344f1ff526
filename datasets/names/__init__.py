"""Class names and their synonyms, per protocol and dataset.

``<protocol>/<dataset>.txt`` has one line per class: the name, then its synonyms, as comma-separated values. A name
that begins or ends with a blank is quoted, and ``""`` alone is a class that no word names.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files

from segscale.errors import UserError
from segscale.prompt import BACKGROUND

Names = tuple[tuple[str, ...], ...]


def class_names(protocol: str, dataset: str) -> Names:
    """Names of every class of ``dataset`` under ``protocol``, the first one leading.

    The index is the class id, which each protocol counts in its own way:

    ``goca``: 0 is the background, which has no name; then the classes in the order of the published code. It has its
    own order for ``context`` and ``coco-stuff-27``. Names are as published, oddities included (``pottedplant``,
    ``buildingsedifice``).
    ``seg4diff``: the published label order, one name per class. ``voc21`` ends and ``coco-object`` begins with
    ``background``; the others have none. ``coco-stuff-27`` keeps its ``-things`` and ``-stuff``.
    ``standard``: the dataset's label order (mmsegmentation's), in readable words. ``voc``, ``context`` and
    ``coco-object`` begin with the nameless background, ``cityscapes``, ``ade20k`` and ``coco-stuff-27`` have none.

    Raises UserError for a protocol or dataset without a list.
    """
    root = files(__name__)
    lists = {
        folder.name: sorted(item.name.removesuffix(".txt") for item in folder.iterdir() if item.name.endswith(".txt"))
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith("_")
    }
    if protocol not in lists:
        raise UserError(f"there are no class names of protocol {protocol!r}", f"there are: {', '.join(sorted(lists))}")
    if dataset not in lists[protocol]:
        raise UserError(
            f"protocol {protocol} has no class names of {dataset!r}", f"there are: {', '.join(lists[protocol])}"
        )
    text = root.joinpath(protocol, f"{dataset}.txt").read_text("utf-8")
    return tuple(tuple(filter(None, row)) for row in csv.reader(text.splitlines(), skipinitialspace=True))


def names_by_id(protocol: str, names_of: str, classes: Sequence[str], background: int | None) -> Names:
    """Names of every class id of a dataset with these ``classes``, from the list ``names_of`` of ``protocol``.

    Lists that have the dataset's class names in another order are put into the dataset's. The id ``background``, if
    any, is called "background".
    """
    rows = class_names(protocol, names_of)
    if rows[0] in ((), (BACKGROUND,)):
        rows = rows[1:]
    wanted = [_plain(name) for id, name in enumerate(classes) if id != background]
    if len(rows) != len(wanted):
        raise UserError(
            f"{protocol} names {len(rows)} classes of {names_of}, not {len(wanted)}", "use its own background view"
        )
    first = {_plain(row[0]): row for row in rows}
    if first.keys() == {*wanted}:
        rows = tuple(first[name] for name in wanted)
    if background is None:
        return rows
    return (*rows[:background], (BACKGROUND,), *rows[background:])


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
