"""Prompts of pictures: the captions of a dataset, or the lines of a file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from segscale.errors import UserError
from segscale.registry import build

from ...datasets.dataset import check_dataset
from ..runs.options import RunOptions


@dataclass(frozen=True)
class PicturePrompt:
    """What one picture is to show."""

    id: str
    """Names the picture's file and seeds its noise."""
    text: str


@dataclass(frozen=True)
class PromptList:
    """All prompts of a source."""

    source: str
    """Dataset and split, or the name of the file."""
    prompts: tuple[PicturePrompt, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of ids and texts, in order."""
        content = json.dumps([(prompt.id, prompt.text) for prompt in self.prompts])
        return hashlib.sha256(content.encode()).hexdigest()

    def first(self, limit: int | None) -> tuple[PicturePrompt, ...]:
        """The first prompts, or all."""
        return self.prompts[:limit]


def captions_of_dataset(dataset_name: str, options: RunOptions) -> PromptList:
    """The captions of a dataset's split, or of a caption file for its images; images without one are left out.

    Raises:
        UserError: Where no image has a caption.
    """
    dataset = build("dataset", dataset_name, **options.dataset_arguments)
    check_dataset(dataset)
    captions = [(id, dataset.caption_of(id)) for id in dataset.ids]
    prompts = tuple(PicturePrompt(id, text) for id, text in captions if text)
    if not prompts:
        raise UserError(f"{dataset_name} {dataset.split} has no captions", "name some: --captions FILE")
    return PromptList(f"{dataset_name}-{dataset.split}", prompts)


def prompts_of_file(path: Path) -> PromptList:
    """One prompt in every line that is not empty; its id is the number of the line.

    Raises:
        UserError: For a file that cannot be read or has no such line.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error})", "name a text file with one prompt per line") from error
    prompts = tuple(
        PicturePrompt(f"{number:05d}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()
    )
    if not prompts:
        raise UserError(f"{path} holds no prompt", "write one per line")
    return PromptList(path.stem, prompts)
