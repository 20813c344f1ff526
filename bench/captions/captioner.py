"""Caption writers, what they are asked, and which answers count as captions.

The task is that of GoCA (arXiv 2603.06178): a comma-separated list of what an image shows, things that belong
together in parentheses.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL import Image

REFUSAL = re.compile(
    r"(i['’]?m|i am|we['’]re)? ?(very |so |really )?sorry\b"  # noqa: RUF001
    r"|(unfortunately,? )?(i|we) (can['’]?t|can ?not|could ?n['’]t|won['’]t|am (unable|not able)|do not|don['’]t) "  # noqa: RUF001
    r"|(unfortunately,? )?i['’]m (unable|not able)"  # noqa: RUF001
    r"|as an (ai|artificial|assistant|language)\b",
    re.IGNORECASE,
)
THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
# A comma outside parentheses.
BETWEEN_ENTITIES = re.compile(r",(?![^()]*\))")
# As in the published captions of GoCA; the other datasets have the default.
WORD_LIMITS = {"context59": 35, "context60": 35}
DEFAULT_WORD_LIMIT = 20


class NoCaptionError(Exception):
    """One image gets no caption."""

    def __init__(self, reason: str, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused
        """True where the writer answered without a caption, False where it did not answer."""


class Captioner(ABC):
    """A model that answers a question about an image."""

    name: str
    """The model's name in the record of a caption file."""
    revision: str | None = None
    """Of the model, where one was asked for."""

    @abstractmethod
    def __call__(self, image: Image.Image, question: str) -> str:
        """The answer as it is. Raises NoCaptionError for this image, UserError where the next image would fail too."""


def word_limit(benchmark: str) -> int:
    """The number of words that a caption of a dataset may have; protocols and papers know it by ``benchmark``."""
    return WORD_LIMITS.get(benchmark, DEFAULT_WORD_LIMIT)


def caption_question(classes: Sequence[str], words: int) -> str:
    """What a writer is asked: to prefer the names ``classes`` and to use at most ``words`` words."""
    return (
        "List everything that this image shows: the objects, and also the surroundings such as sky, road, grass or "
        "wall. Write one line that is nothing but a comma-separated list of short names in lower case, "
        f"at most {words} words in all, the most prominent first. Name only what you see, each thing once. "
        "Put things that belong to one another, such as a person and what they wear, into parentheses, "
        "like this: (person, jacket, hat). Parentheses hold at least two names and no further parentheses. "
        f"Where one of the following names fits, use exactly that name: {', '.join(classes)}."
    )


def caption_from(answer: str, words: int) -> str:
    """The caption in an answer: one line of whole entities, ``words`` words at most.

    Raises:
        NoCaptionError: The answer is empty or a refusal.
    """
    text = " ".join(THINKING.sub(" ", answer).split()).strip("`\"' ")
    if not any(letter.isalnum() for letter in text):
        raise NoCaptionError("empty answer", refused=True)
    if REFUSAL.match(text):
        raise NoCaptionError(f"refused: {one_line(text)}", refused=True)
    return _leading_entities(_without_repeats(text), words)


def _without_repeats(text: str) -> str:
    """Each entity once; small models repeat themselves, and a prompt takes the first one only."""
    entities: dict[str, str] = {}
    for entity in BETWEEN_ENTITIES.split(text):
        if entity.strip():
            entities.setdefault(entity.strip().lower(), entity)
    return ",".join(entities.values()).strip()


def _leading_entities(text: str, words: int) -> str:
    """Leading entities within the limit; of a sentence that is one long entity, its leading words."""
    if len(text.split()) <= words:
        return text
    kept: list[str] = []
    for entity in BETWEEN_ENTITIES.split(text):
        if len(",".join([*kept, entity]).split()) > words:
            break
        kept.append(entity)
    return ",".join(kept).strip() or " ".join(text.split()[:words]).replace("(", "").replace(")", "").rstrip(", ")


def one_line(text: str, length: int = 80) -> str:
    """``text`` as one short line for a message."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
