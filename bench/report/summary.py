"""What tables need of a run's images: computed once, kept beside the parts, and made anew where anything changed.

Reading, checking and leaving out 5,000 images one by one takes a large part of a second, and their counts tens of
megabytes. A summary takes 32 bytes per image. It is derived: it may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

import segscale
from segscale.files import replaced_bytes

from ..evaluation import intervals, metrics, pixel_counts, score_histograms
from ..evaluation.intervals import LeaveOneOut, SampleNumbers
from ..evaluation.metrics import Floats, Score, score_counts
from ..runs.counts import StoredCounts
from ..runs.record import StoredRun
from ..runs.store import RunStore

log = logging.getLogger(__name__)

KEPT_FROM = 1000
"""Images of a run whose summary is kept; fewer are read as fast."""
DIGEST_BYTES = 32
NAME = "summary-{}.bin"
ChosenThreshold = float | Literal["best"]


@dataclass(frozen=True)
class RunSummary:
    """A run at one threshold."""

    images: int
    ids: str
    """Digest of their ids: equal for runs on the same images."""
    threshold: float
    score: Score
    sample: SampleNumbers
    """What its mIoU is estimated from."""
    class_ap: Floats
    """Average precision of every class's score, NaN for a class without scores."""
    mean_ap: LeaveOneOut
    not_finite: int
    cut_classes: int
    forwards: float
    """Mean per image."""
    seconds: float
    """Mean per image."""
    peak_bytes: int

    @classmethod
    def of(cls, counts: StoredCounts, chosen: ChosenThreshold, run: StoredRun) -> RunSummary:
        """Summarise counts, at the best threshold or another one."""
        averaging = run.table_rules.averaging
        threshold = counts.best_threshold(averaging) if chosen == "best" else chosen
        sample = counts.sample(chosen, averaging, run.split_images)
        return cls(
            images=len(counts),
            ids=hashlib.sha256("\n".join(counts.images).encode()).hexdigest(),
            threshold=threshold,
            score=score_counts(counts.at_threshold(threshold), averaging),
            sample=SampleNumbers(sample.numbers, sample.too_rare),
            class_ap=counts.average_precision(),
            mean_ap=counts.mean_average_precision(),
            not_finite=int(counts.not_finite.sum()),
            cut_classes=int(counts.cut_classes.sum()),
            forwards=float(counts.forwards.mean()),
            seconds=float(counts.seconds.mean()),
            peak_bytes=int(counts.peak_bytes.max()),
        )


@dataclass(frozen=True)
class _Head:
    """All of a summary but its numbers per image."""

    images: int
    ids: str
    threshold: float
    miou: float
    accuracy: float
    class_iou: tuple[float, ...]
    class_ap: tuple[float, ...]
    mean_ap: float
    value: float
    too_rare: str | None
    not_finite: int
    cut_classes: int
    forwards: float
    seconds: float
    peak_bytes: int


_HEAD = TypeAdapter(_Head)


class SummaryFile:
    """The kept summary of a run at a threshold, as its parts are now."""

    def __init__(self, store: RunStore, run: StoredRun, chosen: ChosenThreshold) -> None:
        """Name the file by everything that the summary follows from: parts, rules, and the code that applies them."""
        rules = [run.run_id, chosen, run.table_rules.averaging, run.split_images, segscale.__version__, _code()]
        parts = store.part_keys()
        self.parts = frozenset(parts)
        digest = hashlib.sha256(json.dumps([rules, parts]).encode()).hexdigest()[:16]
        self.path = store.folder / NAME.format(digest)

    def read(self) -> RunSummary | None:
        """The summary, None where there is none or a damaged one."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        head, _, body = payload.partition(b"\n")
        if hashlib.sha256(payload).digest() != digest:
            log.warning("%s is damaged; it is made anew", self.path)
            return None
        with suppress(ValidationError):
            return _joined(_HEAD.validate_python(json.loads(head)), np.frombuffer(body, "<f8"))
        return None

    def write(self, summary: RunSummary) -> None:
        """Keep the summary instead of older ones, where the folder can be written."""
        if summary.images < KEPT_FROM:
            return
        head = json.dumps(asdict(_head(summary))).encode()
        left_out = [(each.without, each.without_but_same_classes) for each in (summary.sample.numbers, summary.mean_ap)]
        body = np.array(left_out, "<f8").tobytes()
        payload = head + b"\n" + body
        older = [path for path in self.path.parent.glob(NAME.format("*")) if path.name != self.path.name]
        try:
            with replaced_bytes(self.path, flushes=False) as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            for path in older:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.info("%s is not kept (%s); the next table takes as long", self.path, error.strerror)


def _head(summary: RunSummary) -> _Head:
    return _Head(
        images=summary.images,
        ids=summary.ids,
        threshold=summary.threshold,
        miou=float(summary.score.miou),
        accuracy=float(summary.score.accuracy),
        class_iou=tuple(summary.score.class_iou.tolist()),
        class_ap=tuple(summary.class_ap.tolist()),
        mean_ap=summary.mean_ap.value,
        value=summary.sample.numbers.value,
        too_rare=summary.sample.too_rare,
        not_finite=summary.not_finite,
        cut_classes=summary.cut_classes,
        forwards=summary.forwards,
        seconds=summary.seconds,
        peak_bytes=summary.peak_bytes,
    )


def _joined(head: _Head, numbers: Floats) -> RunSummary:
    miou, mean_ap = numbers.reshape(2, 2, head.images)
    return RunSummary(
        images=head.images,
        ids=head.ids,
        threshold=head.threshold,
        score=Score(head.miou, head.accuracy, np.array(head.class_iou)),
        sample=SampleNumbers(LeaveOneOut(head.value, *miou), head.too_rare),
        class_ap=np.array(head.class_ap),
        mean_ap=LeaveOneOut(head.mean_ap, *mean_ap),
        not_finite=head.not_finite,
        cut_classes=head.cut_classes,
        forwards=head.forwards,
        seconds=head.seconds,
        peak_bytes=head.peak_bytes,
    )


@cache
def _code() -> str:
    """Digest of the modules that turn counts into numbers, so that none is kept that they would not give."""
    files = [Path(str(module.__file__)) for module in (intervals, metrics, pixel_counts, score_histograms)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in [*files, Path(__file__)])).hexdigest()
