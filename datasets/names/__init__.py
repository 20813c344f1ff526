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


def class_names(protocol_name: str, dataset_name: str) -> Names:
    """Names of every class of a dataset under a protocol, the first one leading.

    The index is the class id, which each protocol counts in its own way:

    ``goca``: 0 is the background, which has no name; then the classes in the order of the published code. It has its
    own order for ``context`` and ``coco-stuff-27``. Names are as published, oddities included (``pottedplant``,
    ``buildingsedifice``).
    ``seg4diff``: the published label order, one name per class. ``voc21`` ends and ``coco-object`` begins with
    ``background``; the others have none. ``coco-stuff-27`` keeps its ``-things`` and ``-stuff``.
    ``standard``: the dataset's label order (mmsegmentation's), in readable words. ``voc``, ``context`` and
    ``coco-object`` begin with the nameless background, ``cityscapes``, ``ade20k`` and ``coco-stuff-27`` have none.

    Raises:
        UserError: There is no list of this protocol or dataset.
    """
    root = files(__name__)
    lists = {
        folder.name: sorted(item.name.removesuffix(".txt") for item in folder.iterdir() if item.name.endswith(".txt"))
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith("_")
    }
    if protocol_name not in lists:
        raise UserError(
            f"there are no class names of protocol {protocol_name!r}", f"there are: {', '.join(sorted(lists))}"
        )
    if dataset_name not in lists[protocol_name]:
        raise UserError(
            f"protocol {protocol_name} has no class names of {dataset_name!r}",
            f"there are: {', '.join(lists[protocol_name])}",
        )
    text = root.joinpath(protocol_name, f"{dataset_name}.txt").read_text("utf-8")
    return tuple(tuple(filter(None, row)) for row in csv.reader(text.splitlines(), skipinitialspace=True))


def names_by_id(protocol_name: str, name_list: str, classes: Sequence[str], background: int | None) -> Names:
    """Names of every class id of a dataset with these ``classes``, from the list ``name_list`` of a protocol.

    Lists that have the dataset's class names in another order are put into the dataset's. The id ``background``, if
    any, is called "background".
    """
    rows = class_names(protocol_name, name_list)
    if rows[0] in ((), (BACKGROUND,)):
        rows = rows[1:]
    plain = [_plain(name) for id, name in enumerate(classes) if id != background]
    if len(rows) != len(plain):
        raise UserError(
            f"{protocol_name} names {len(rows)} classes of {name_list}, not {len(plain)}", "use its own background view"
        )
    first = {_plain(row[0]): row for row in rows}
    if first.keys() == {*plain}:
        rows = tuple(first[name] for name in plain)
    if background is None:
        return rows
    return (*rows[:background], (BACKGROUND,), *rows[background:])


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
