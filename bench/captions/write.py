"""Captions for a dataset: asks a writer about every image that has none, and keeps what it says."""

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
from .captioner import WORDS, Captioner, NoCaptionError, caption_of, question
from .file import CaptionFile

DEFAULT_WORDS = 20
# Images in a row without any answer after which the writer is taken to be gone.
SILENT_IMAGES = 5


@dataclass(frozen=True)
class CaptionReport:
    """What came out. images: asked for; captions: of these, how many have one; failed: reason by image id."""

    path: Path
    images: int
    captions: int
    failed: dict[str, str]


def word_limit(dataset: str) -> int:
    return WORDS.get(dataset, DEFAULT_WORDS)


def write_captions(
    data: Dataset,
    captioner: Captioner,
    path: Path,
    words: int,
    limit: int | None = None,
    workers: int = 1,
    flush_seconds: float = 5.0,
) -> CaptionReport:
    """Caption the first ``limit`` images; those with a caption in ``path`` are not asked about again.

    The file is written every ``flush_seconds`` and at the end, whatever ends it. It does not depend on the number
    of workers. Raises UserError where going on makes no sense; what was answered stays.
    """
    names = [name for index, name in enumerate(data.classes) if index != data.background]
    asked = question(names, words)
    origin = {"dataset": data.name, "split": data.split, "captioner": captioner.name, "words": words, "question": asked}
    file = CaptionFile(path, origin)
    ids = data.ids[:limit]
    missing = [index for index, image in enumerate(ids) if image not in file]
    failed: dict[str, str] = {}
    silent = 0
    saved = time.monotonic()
    try:
        answers = _answers(data, captioner, missing, asked, words, workers)
        for image, answer in tqdm(answers, desc=f"captions of {data.name}", unit="image", total=len(missing)):
            if isinstance(answer, NoCaptionError):
                failed[image] = str(answer)
                silent = 0 if answer.refused else silent + 1
                if silent == SILENT_IMAGES:
                    raise UserError(f"{silent} images in a row got no answer: {answer}", "run the same command later")
                continue
            silent = 0
            file.add(image, answer)
            if time.monotonic() - saved >= flush_seconds:
                file.save()
                saved = time.monotonic()
    finally:
        if missing and len(file):
            file.save()
    return CaptionReport(path, len(ids), len(ids) - len(failed), dict(sorted(failed.items())))


def _answers(
    data: Dataset, captioner: Captioner, indices: Sequence[int], asked: str, words: int, workers: int
) -> Iterator[tuple[str, str | NoCaptionError]]:
    """Image id and caption, as they come. Images are read here, one at a time; only questions run in threads."""
    if workers == 1:
        for index in indices:
            sample = data[index]
            yield sample.id, _caption(captioner, sample, asked, words)
        return
    tasks: SimpleQueue[Sample | None] = SimpleQueue()
    answers: SimpleQueue[tuple[str, str | NoCaptionError | Exception]] = SimpleQueue()

    def work() -> None:
        while (sample := tasks.get()) is not None:
            try:
                answer = _caption(captioner, sample, asked, words)
            except Exception as error:  # noqa: BLE001 (raised again by the thread that asked)
                answers.put((sample.id, error))
            else:
                answers.put((sample.id, answer))

    # Daemons, so that an interrupt need not wait for answers on their way.
    for _ in range(workers):
        Thread(target=work, daemon=True).start()
    try:
        for count, index in enumerate(indices):
            try:
                tasks.put(data[index])
            except UserError as error:
                answers.put((data.ids[index], NoCaptionError(error.problem, refused=True)))
            if count >= workers:
                yield _taken(answers)
        for _ in range(min(workers, len(indices))):
            yield _taken(answers)
    finally:
        for _ in range(workers):
            tasks.put(None)


def _taken(answers: SimpleQueue[tuple[str, str | NoCaptionError | Exception]]) -> tuple[str, str | NoCaptionError]:
    image, answer = answers.get()
    if isinstance(answer, Exception) and not isinstance(answer, NoCaptionError):
        raise answer
    return image, answer


def _caption(captioner: Captioner, sample: Sample, asked: str, words: int) -> str | NoCaptionError:
    try:
        return caption_of(captioner(sample.image, asked), words)
    except NoCaptionError as failure:
        return failure
