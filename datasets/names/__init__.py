"""Class names and their synonyms, per protocol and dataset.

``<protocol>/<dataset>.txt`` has one line per class: the name, then its synonyms, as comma-separated values. A name
that begins or ends with a blank is quoted, and ``""`` alone is a class that no word names.
"""

from __future__ import annotations

import csv
from importlib.resources import files

from segscale.errors import UserError

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
    ``coco-object`` begin with the nameless background, ``cityscapes`` and ``ade20k`` have none; ``coco-stuff-27`` has
    the order of ``seg4diff``.

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
