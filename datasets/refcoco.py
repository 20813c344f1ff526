"""RefCOCO, RefCOCO+ and RefCOCOg (arXiv 1608.00272, 1511.02283), converted once from the files of their authors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from segscale.errors import UserError
from segscale.registry import DATASETS

from .files import FileError
from .folder import DOCUMENTATION, Counts, Entry, prepare_command, require
from .plain_pickle import read_plain_pickle
from .prepare import Derivation, Mask
from .referring import TARGET_ID, Referred, ReferringFolder

IMAGES = "images/train2014"
MASKS = "masks"
INSTANCES = "instances.json"
CONVERTED = "expressions.json"
UNPACK = "unpack the authors' archive and COCO's train2014 (as images/train2014) and name their folder with --data-root"


@dataclass(frozen=True)
class Reference:
    """An object that expressions mean."""

    id: int
    split: str
    image: str
    """File name below ``images/train2014``."""
    annotation: int
    """Id of its COCO annotation, whose mask is ``masks/<id>.png``."""
    expressions: tuple[str, ...]


_REFERENCES = TypeAdapter(tuple[Reference, ...])


@dataclass(frozen=True)
class Expressions(Derivation):
    """The file of expressions that the dataset reads."""

    references: tuple[Reference, ...]

    def write(self, file: BinaryIO) -> None:
        file.write(_REFERENCES.dump_json(self.references))


@dataclass(frozen=True)
class Outline(Mask):
    """A mask of a COCO annotation: polygons, or run lengths."""

    size: tuple[int, int]
    """Height and width of the image."""
    segmentation: str
    """As JSON."""

    def label(self) -> NDArray[np.uint8]:
        from pycocotools import mask as coco_mask

        segmentation = json.loads(self.segmentation)
        try:
            parts = coco_mask.frPyObjects(segmentation, *self.size)
            values = np.asarray(coco_mask.decode(coco_mask.merge(parts) if isinstance(parts, list) else parts))
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise FileError("damaged", f"{self.source} is damaged (outline of {self.target.stem}: {error})") from error
        return values.astype(np.uint8) * np.uint8(TARGET_ID)


class RefCoco(ReferringFolder):
    """The folder ``data_root`` holds ``images`` and the authors' folder, which has refs and instances."""

    folder: ClassVar[str]
    """The authors' name."""
    refs: ClassVar[str]
    """Their file of references, by the split that is usual."""

    def referred(self, split: str) -> Iterator[Referred]:
        images = self.require(IMAGES, UNPACK)
        hint = f"make it with: {prepare_command(self.name, self.root)}"
        converted = self.require(f"{self.folder}/{CONVERTED}", hint)
        for reference in _read_converted(converted, hint):
            if reference.split == split:
                mask = self.root / self.folder / MASKS / f"{reference.annotation}.png"
                for number, expression in enumerate(reference.expressions):
                    yield Referred(Entry(f"{reference.id}-{number}", images / reference.image, mask), expression)

    @classmethod
    def derivations(cls, root: Path) -> Iterator[Derivation]:
        """The converted expressions, and a mask of every annotation that one means."""
        source = require(root, f"{cls.folder}/{cls.refs}", UNPACK)
        instances = require(root, f"{cls.folder}/{INSTANCES}", UNPACK)
        images, annotations = _instances(instances)
        references = _references(source, images, annotations)
        yield Expressions(source, root / cls.folder / CONVERTED, references)
        for annotation in sorted({reference.annotation for reference in references}):
            image, segmentation = annotations[annotation]
            target = root / cls.folder / MASKS / f"{annotation}.png"
            yield Outline(instances, target, images[image][1], segmentation)


@DATASETS.register_module()
class RefCocoUnc(RefCoco):
    """RefCOCO: expressions of a game, with places; testA shows people, testB other things."""

    folder = "refcoco"
    refs = "refs(unc).p"
    official_counts: ClassVar[Counts] = {"train": (120624,), "val": (10834,), "testA": (5657,), "testB": (5095,)}


@DATASETS.register_module()
class RefCocoPlus(RefCoco):
    """RefCOCO+: as RefCOCO, but places were forbidden."""

    folder = "refcoco+"
    refs = "refs(unc).p"
    official_counts: ClassVar[Counts] = {"train": (120191,), "val": (10758,), "testA": (5726,), "testB": (4889,)}


@DATASETS.register_module()
class RefCocoG(RefCoco):
    """RefCOCOg in the split of UMD: longer expressions, written without a game."""

    folder = "refcocog"
    refs = "refs(umd).p"
    official_counts: ClassVar[Counts] = {"train": (80512,), "val": (4896,), "test": (9602,)}


def _read_converted(path: Path, hint: str) -> tuple[Reference, ...]:
    try:
        return _REFERENCES.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise UserError(f"{path} is damaged", f"remove it and {hint}") from error


Images = Mapping[int, tuple[str, tuple[int, int]]]
"""File name, height and width by id."""
Annotations = Mapping[int, tuple[int, str]]
"""Image and segmentation (as JSON) by id."""


def _instances(path: Path) -> tuple[Images, Annotations]:
    try:
        content = json.loads(path.read_text())
        images = {image["id"]: (image["file_name"], (image["height"], image["width"])) for image in content["images"]}
        outlines = {each["id"]: (each["image_id"], json.dumps(each["segmentation"])) for each in content["annotations"]}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error!r})", DOCUMENTATION) from error
    return images, outlines


def _references(path: Path, images: Images, annotations: Annotations) -> tuple[Reference, ...]:
    """The references of the authors' pickle, by id."""
    content: Any = read_plain_pickle(path)
    try:
        references = [
            Reference(
                id=ref["ref_id"],
                split=ref["split"],
                image=images[annotations[ref["ann_id"]][0]][0],
                annotation=ref["ann_id"],
                expressions=_sentences(ref["sentences"]),
            )
            for ref in content
        ]
        return tuple(sorted(references, key=lambda reference: reference.id))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not match {INSTANCES} ({error!r})", DOCUMENTATION) from error


def _sentences(sentences: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(" ".join(sentence["sent"].split()) for sentence in sentences)
