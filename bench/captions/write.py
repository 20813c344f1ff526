"""Captions for a dataset: asks a writer about every image that has no caption, and keeps the answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from tqdm import tqdm

from segscale.errors import UserError

from ...datasets.dataset import Dataset, Sample
from .captioner import Captioner, NoCaptionError, caption_from, caption_question
from .file import CaptionFile

# Images in a row without any answer after which the writer is taken to be gone.
SILENT_IMAGES = 5
FLUSH_SECONDS = 5.0

Outcome = tuple[str, str | NoCaptionError]
"""The id of an image with its caption, or why it has none."""
ReadImage = tuple[str, Sample | NoCaptionError]
"""The id of an image with its sample, or why there is none."""


@dataclass(frozen=True)
class CaptionReport:
    """How many images have a caption now."""

    images: int
    """Number of images asked for."""
    captions: int
    """How many of them have a caption."""
    failed: dict[str, str]
    """Why the others have none, by image id."""


def write_captions(
    dataset: Dataset,
    captioner: Captioner,
    path: Path,
    words: int,
    limit: int | None = None,
    workers: int = 1,
) -> CaptionReport:
    """Write captions of the first ``limit`` images; those with a caption in ``path`` are not asked about again.

    The file is written every ``FLUSH_SECONDS`` and at the end, whatever ends it. It does not depend on the number
    of workers.

    Raises:
        UserError: The next image would fail too. What was answered is in the file.
    """
    names = [name for index, name in enumerate(dataset.classes) if index != dataset.background]
    question = caption_question(names, words)
    file = CaptionFile(path, _origin(dataset, captioner, words, question))
    ids, captioned = dataset.ids[:limit], file.captioned(dataset.ids)
    pending = [index for index, image in enumerate(ids) if image not in captioned]
    failed: dict[str, str] = {}
    silent = 0
    saved = time.monotonic()
    try:
        outcomes = _outcomes(dataset, captioner, pending, question, words, workers)
        for image, answer in tqdm(outcomes, desc=f"captions of {dataset.name}", unit="image", total=len(pending)):
            if isinstance(answer, NoCaptionError):
                failed[image] = str(answer)
                silent = 0 if answer.refused else silent + 1
                if silent == SILENT_IMAGES:
                    raise UserError(f"{silent} images in a row got no answer: {answer}", "run the same command later")
                continue
            silent = 0
            file.add(image, answer)
            if time.monotonic() - saved >= FLUSH_SECONDS:
                file.save()
                saved = time.monotonic()
    finally:
        if pending and len(file):
            file.save()
    return CaptionReport(len(ids), len(ids) - len(failed), dict(sorted(failed.items())))


def _origin(dataset: Dataset, captioner: Captioner, words: int, question: str) -> dict[str, str | int | None]:
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "captioner": captioner.name,
        "revision": captioner.revision,
        "words": words,
        "question": question,
    }


def _outcomes(
    dataset: Dataset, captioner: Captioner, indices: Sequence[int], question: str, words: int, workers: int
) -> Iterator[Outcome]:
    """Outcomes as they come. Images are read here, one at a time; only questions run in threads."""
    if workers == 1:
        for index in indices:
            image, sample = _read(dataset, index)
            yield image, _ask(captioner, sample, question, words)
        return
    samples: SimpleQueue[ReadImage | None] = SimpleQueue()
    answers: SimpleQueue[tuple[str, str | Exception]] = SimpleQueue()

    def work() -> None:
        while (read := samples.get()) is not None:
            image, sample = read
            try:
                answer = _ask(captioner, sample, question, words)
            except Exception as error:  # noqa: BLE001 (raised again by the thread that asked)
                answers.put((image, error))
            else:
                answers.put((image, answer))

    # Daemons, so that an interrupt need not wait for answers on their way.
    for _ in range(workers):
        Thread(target=work, daemon=True).start()
    try:
        for count, index in enumerate(indices):
            samples.put(_read(dataset, index))
            if count >= workers:
                yield _next_outcome(answers)
        for _ in range(min(workers, len(indices))):
            yield _next_outcome(answers)
    finally:
        for _ in range(workers):
            samples.put(None)


def _next_outcome(answers: SimpleQueue[tuple[str, str | Exception]]) -> Outcome:
    image, answer = answers.get()
    if isinstance(answer, Exception) and not isinstance(answer, NoCaptionError):
        raise answer
    return image, answer


def _read(dataset: Dataset, index: int) -> ReadImage:
    try:
        sample = dataset[index]
    except UserError as error:
        return dataset.ids[index], NoCaptionError(error.problem, refused=True)
    return sample.id, sample


def _ask(captioner: Captioner, sample: Sample | NoCaptionError, question: str, words: int) -> str | NoCaptionError:
    if isinstance(sample, NoCaptionError):
        return sample
    try:
        return caption_from(captioner(sample.image, question), words)
    except NoCaptionError as failure:
        return failure
