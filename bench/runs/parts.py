"""One part of a run: a Parquet file of images that says whose it is. It never changes, and is verified when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from segscale.places import is_remote

from ...datasets.dataset import Digests
from ..evaluation.pixel_counts import PixelCounts
from ..evaluation.score_histograms import BINS, ScoreHistograms
from .record import FORMAT, StoredRun

COUNTS = ("intersection", "predicted_area", "label_area")
SCORES = ("score_classes", "score_pixels")
LISTS = (*COUNTS, *SCORES)
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("pixels", pa.int64()),
        ("not_finite", pa.int64()),
        ("cut_classes", pa.int64()),
        ("forwards", pa.int64()),
        ("forwards_together", pa.int64()),
        ("captioned", pa.int64()),
        ("image_digest", pa.string()),
        ("label_digest", pa.string()),
        *((name, pa.list_(pa.int64())) for name in LISTS),
    ]
)
NUMBERS = ("seconds", "peak_bytes", "not_finite", "cut_classes", "forwards", "forwards_together", "captioned")
"""One of each image, none negative."""
RUN_KEY, FORMAT_KEY, VALUES_KEY = b"segscale.run", b"segscale.format", b"segscale.values"


@dataclass(frozen=True)
class ImageRecord:
    """One evaluated image."""

    image: str
    seconds: float
    """Wall time."""
    peak_bytes: int
    """Peak memory of the process or device so far."""
    pixels: int
    """Of the label map that was compared; those that do not count included."""
    counts: PixelCounts
    digests: Digests
    """Of the image and the label that were read."""
    not_finite: int = 0
    """Scores that are NaN or infinite, see ``MethodScores``."""
    cut_classes: int = 0
    """Classes without a token in the prompt."""
    forwards: int = 1
    """Of the denoiser, if the method were alone."""
    forwards_together: int = 1
    """Of all methods that read the image together."""
    captioned: int = 0
    """1 where a caption made the prompt, else 0."""
    histograms: ScoreHistograms = field(default_factory=ScoreHistograms.none)
    """Pixels by class and score."""


@dataclass(frozen=True)
class PartRules:
    """What every part of a run keeps to."""

    run_id: str
    thresholds: int
    classes: int
    images: frozenset[str] | None = None
    """Ids of the dataset; None where it is not at hand."""

    @classmethod
    def of(cls, run: StoredRun, images: Collection[str] | None = None) -> PartRules:
        """Those of ``run``, on a dataset of ``images``."""
        thresholds = run.plan.task.protocol.thresholds
        return cls(run.run_id, len(thresholds), len(run.classes), None if images is None else frozenset(images))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one image's counts in the column ``name``."""
        return (self.classes,) if name == "label_area" else (self.thresholds, self.classes)


DAMAGE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError)
"""What contents that are not what was written raise. Arrow's other errors are of this machine: memory or threads."""


class PartError(Exception):
    """A part that must not be counted; the message is a predicate, such as "is damaged"."""


def as_table(records: Sequence[ImageRecord]) -> pa.Table:
    """One row per record."""
    columns = {
        "image": [record.image for record in records],
        **{name: [getattr(record, name) for record in records] for name in ("pixels", *NUMBERS)},
        "image_digest": [record.digests.image for record in records],
        "label_digest": [record.digests.label for record in records],
        **{name: _lists([getattr(record.counts, name).ravel() for record in records]) for name in COUNTS},
        "score_classes": _lists([record.histograms.class_ids for record in records]),
        "score_pixels": _lists([record.histograms.pixels.ravel() for record in records]),
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def _lists(arrays: Sequence[NDArray[np.int64]]) -> pa.ListArray:
    """An Arrow list of every array, without a Python number for each of its elements."""
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.concatenate([np.empty(0, np.int64), *arrays]))


def write_part(table: pa.Table, run_id: str, file: BinaryIO) -> None:
    """Write a part of the run ``run_id``."""
    metadata = {RUN_KEY: run_id, FORMAT_KEY: str(FORMAT), VALUES_KEY: _values_digest(table)}
    pq.write_table(table.replace_schema_metadata(metadata), file, write_page_checksum=True)


def stated_images(path: Path) -> int:
    """How many images a merged part holds, by its name: very many runs are counted so. 0 for any other part."""
    mark = path.name.split(".")[1]
    return int(mark) if mark.isdecimal() else 0


def images_of(path: Path) -> frozenset[str]:
    """Ids of the images of a part, none of one that cannot be read; ``read_part`` verifies them."""
    try:
        with pq.ParquetFile(_source(path)) as file:
            return frozenset(file.read(["image"], use_threads=False)["image"].to_pylist())
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError):
        return frozenset()


def read_part(path: Path, rules: PartRules) -> pa.Table:
    """Read and verify a part.

    Raises:
        PartError: It is damaged, of another run or format, or holds what no image can have.
        OSError: The file system gave it not.
        MemoryError, pa.ArrowException: This machine could not read it now.
    """
    try:
        with pq.ParquetFile(_source(path), page_checksum_verification=True) as file:
            _check_owner(file.schema_arrow, rules)
            table = file.read(use_threads=False)
        table.validate(full=True)
    except DAMAGE as error:
        # The file system's own errors carry a number; Arrow's about the contents do not.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PartError(f"is damaged ({' '.join(str(error).split())})") from error
    problem = next(_problems(table, rules), None)
    if problem is not None:
        raise PartError(f"is damaged ({problem})")
    return table.replace_schema_metadata()


def _source(path: Path) -> Path | pa.BufferReader:
    """What Arrow reads a part from."""
    return pa.BufferReader(path.read_bytes()) if is_remote(path) else path


def each_image_once(parts: Sequence[pa.Table]) -> pa.Table:
    """The rows of all parts by id; of an image in several, that of the first."""
    table = pa.concat_tables([SCHEMA.empty_table(), *parts])
    _, rows = np.unique(np.array(table["image"].to_pylist(), dtype=object), return_index=True)
    return table if np.array_equal(rows, np.arange(len(table))) else table.take(rows)


def counts_of(table: pa.Table, name: str, rules: PartRules) -> NDArray[np.int64]:
    """The counts in the column ``name``, images first."""
    return column(table, name).flatten().to_numpy().reshape(len(table), *rules.shape(name))


def histograms_of(table: pa.Table) -> list[ScoreHistograms]:
    """The histograms of every image, in the order of the rows."""
    classes, pixels = (column(table, name) for name in SCORES)
    numbers = [np.asarray(each, np.int64) for each in pixels.to_numpy(zero_copy_only=False)]
    ids = [np.asarray(each, np.int64) for each in classes.to_numpy(zero_copy_only=False)]
    return [ScoreHistograms(*each) for each in zip(ids, (part.reshape(-1, 2, BINS) for part in numbers), strict=True)]


def digests_of(table: pa.Table) -> dict[str, Digests]:
    """What each image was made of."""
    columns = (table[name].to_pylist() for name in ("image", "image_digest", "label_digest"))
    return {image: Digests(*digests) for image, *digests in zip(*columns, strict=True)}


def column(table: pa.Table, name: str) -> Any:
    """A column as one array, without a copy where it is one already."""
    chunks = table[name]
    return chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()


def _values_digest(table: pa.Table) -> str:
    """Of all values: the pages have checksums of their own, their headers have none."""
    texts = [field.name for field in SCHEMA if field.type == pa.string()]
    values = hashlib.sha256(json.dumps([table[name].to_pylist() for name in texts]).encode())
    for name in (name for name in SCHEMA.names if name not in texts):
        numbers = column(table, name)
        values.update((numbers.flatten() if name in LISTS else numbers).to_numpy())
    return values.hexdigest()[:16]


def _check_owner(schema: pa.Schema, rules: PartRules) -> None:
    metadata = schema.metadata or {}
    stated, owner = (metadata.get(key, b"").decode() for key in (FORMAT_KEY, RUN_KEY))
    if stated != str(FORMAT):
        raise PartError(f"is of format {stated or '2 or older'}, this version reads {FORMAT}")
    if owner != rules.run_id:
        raise PartError(f"belongs to run {owner}")
    if not schema.equals(SCHEMA):
        raise PartError("is damaged (it has other columns)")


def _problems(table: pa.Table, rules: PartRules) -> Iterator[str]:
    """What is wrong with the contents, the reasons that make later ones meaningless first."""
    if any(table[name].null_count for name in SCHEMA.names):
        yield "a value is missing"
    for name in COUNTS:
        lists = column(table, name)
        if lists.flatten().null_count or (lists.value_lengths().to_numpy() != np.prod(rules.shape(name))).any():
            yield f"{name} has another length"
    yield from _image_problems(column(table, "image").to_pylist(), rules)
    if not all((column(table, name).to_numpy() >= 0).all() for name in NUMBERS):
        yield "time, memory or a number of scores is negative"
    yield from _score_problems(table, rules)
    intersection, predicted, labelled = (counts_of(table, name, rules) for name in COUNTS)
    yield from _area_problems(intersection, predicted, labelled, column(table, "pixels").to_numpy())
    if (table.schema.metadata or {}).get(VALUES_KEY) != _values_digest(table).encode():
        yield "its values are not those that were written"


def _score_problems(table: pa.Table, rules: PartRules) -> Iterator[str]:
    classes, pixels = (column(table, name) for name in SCORES)
    if classes.flatten().null_count or pixels.flatten().null_count:
        yield "a score is missing"
    if (pixels.value_lengths().to_numpy() != 2 * BINS * classes.value_lengths().to_numpy()).any():
        yield "score_pixels has another length"
    ids, numbers = (each.flatten().to_numpy() for each in (classes, pixels))
    if len(ids) and not 0 <= ids.min() <= ids.max() < rules.classes:
        yield "a score is of no class"
    if len(numbers) and numbers.min() < 0:
        yield "a number of pixels is negative"
    # Every class sees the same pixels of its image, and as many of its own as are labelled.
    image = np.repeat(np.arange(len(table)), classes.value_lengths().to_numpy())
    area, size = counts_of(table, "label_area", rules), column(table, "pixels").to_numpy()
    sums = numbers.reshape(-1, 2, BINS).sum(2, dtype=np.float64)
    if (sums.sum(1) > size[image]).any() or (sums[:, 1] != area[image, ids]).any():
        yield "scores are of other pixels than the label's"


def _image_problems(images: list[str], rules: PartRules) -> Iterator[str]:
    known = frozenset(images)
    if len(known) < len(images):
        yield "an image is in it twice"
    if rules.images is not None and not known <= rules.images:
        yield f"{min(known - rules.images)} is no image of this dataset"


def _area_problems(
    intersection: NDArray[np.int64],
    predicted: NDArray[np.int64],
    labelled: NDArray[np.int64],
    pixels: NDArray[np.int64],
) -> Iterator[str]:
    if any((areas < 0).any() for areas in (intersection, predicted, labelled)):
        yield "an area is negative"
    if (intersection > predicted).any() or (intersection > labelled[:, None]).any():
        yield "an intersection is larger than its areas"
    sums = (areas.sum(-1, dtype=np.float64).reshape(len(pixels), -1) for areas in (predicted, labelled))
    if any((total > pixels[:, None]).any() for total in sums):
        yield "areas are larger than the image"
