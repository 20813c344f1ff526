"""One method's share of a run's loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ...methods.method import Method
from ..inference.answers import MethodScores, ScoredImage
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
    pending: dict[str, ImageRecord] = field(default_factory=dict)
    """Computed and not known to be written, by image."""
    writing: bool = False
    """Whether they are being written, or were when something interrupted it."""

    def record(self, task: Task, image: ScoredImage, answer: MethodScores, peak_bytes: int) -> ImageRecord:
        """Count the pixels of one image."""
        start = time.perf_counter()
        sample = image.sample
        counts = task.count(answer.scores, answer.prompts.class_ids, sample)
        normalised = self.method.normalised
        histograms = task.score_histograms(answer.scores, answer.prompts.class_ids, sample, normalised)
        seconds = answer.seconds + time.perf_counter() - start
        return ImageRecord(
            image=sample.id,
            seconds=seconds,
            peak_bytes=peak_bytes,
            pixels=task.evaluated_pixels(sample),
            counts=counts,
            digests=sample.digests,
            not_finite=answer.not_finite,
            cut_classes=answer.cut_classes,
            forwards=len(answer.prompts.texts),
            forwards_together=image.forwards,
            captioned=int(answer.prompts.captioned),
            histograms=histograms,
        )

    def keep(self, record: ImageRecord) -> None:
        """Have a record written with the next part, unless the image is stored; an interrupt may bring it again."""
        if record.image in self.due:
            self.pending[record.image] = record

    def flush(self) -> None:
        """Write what is pending, once, also where an interrupt fell into an earlier attempt."""
        if self.writing:
            self.look_for_stored()
            self.pending = {image: record for image, record in self.pending.items() if image in self.due}
        if self.pending:
            self.writing = True
            self.store.append([*self.pending.values()])
            self.due -= self.pending.keys()
            self.pending.clear()
        self.writing = False

    def note_parameters(self, parameters: int) -> None:
        """Store the size of the denoiser, which only a loaded backbone tells."""
        stored = self.store.read()
        if stored.parameters != parameters:
            self.store.write(replace(stored, parameters=parameters))

    def look_for_stored(self) -> None:
        """Images that are stored by now, whoever did it, are not due."""
        self.due -= self.store.done()
