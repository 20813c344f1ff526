"""One method's share of a run's loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...datasets.dataset import Sample
from ...methods.method import Method
from ..inference.answers import MethodScores
from ..tasks.task import Task
from .parts import ImageRecord
from .store import RunStore


@dataclass(eq=False)
class MethodRun:
    """A method, its store, and what is computed and not stored yet."""

    method: Method
    store: RunStore
    due: frozenset[str]
    """Ids of images that are not known to be stored."""
    pending: list[ImageRecord] = field(default_factory=list)
    """Computed and not known to be written."""
    writing: bool = False
    """Whether they are being written, or were when something interrupted it."""

    def add(self, task: Task, sample: Sample, answer: MethodScores, forwards_together: int, peak_bytes: int) -> None:
        """Count the pixels of one image."""
        start = time.perf_counter()
        counts = task.count(answer.scores, answer.prompts.class_ids, sample)
        seconds = answer.seconds + time.perf_counter() - start
        measured = (seconds, peak_bytes, task.evaluated_pixels(sample))
        undefined = (answer.not_finite, answer.cut_classes)
        asked = (len(answer.prompts.texts), forwards_together, answer.prompts.captioned)
        self.pending.append(ImageRecord(sample.id, *measured, counts, sample.digests, *undefined, *asked))

    def flush(self) -> None:
        """Write what is pending, once, also where an interrupt fell into an earlier attempt."""
        if self.writing:
            self.look_for_stored()
            self.pending = [record for record in self.pending if record.image in self.due]
        if self.pending:
            self.writing = True
            self.store.append(self.pending)
            self.due -= {record.image for record in self.pending}
            self.pending.clear()
        self.writing = False

    def look_for_stored(self) -> None:
        """Images that are stored by now, whoever did it, are not due."""
        self.due -= self.store.done()
