"""What the two readings make of every published caption: how often a phrase or a class is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from segscale.backbones.text.tokens import stream_tokens
from segscale.datasets.names import Names, class_names
from segscale.datasets.prompts.caption_file import read_captions
from segscale.datasets.prompts.described import described_prompt
from segscale.datasets.prompts.published import published_prompt
from segscale.prompt import Prompt

Reading = Callable[[str, Names, list[int], bool, bool], tuple[Prompt, tuple[int, ...]]]

# Captions, then those with each fault, as counted for the published code; the last fault was counted here.
FAULTS = (
    "captions",
    "lacks a phrase",
    "a class without token",
    "one group",
    "no class",
    "no background",
    "loses a class",
)
COUNTS = {
    "voc": (1464, 92, 3, 25, 43, 33, 19),
    "context": (964, 49, 15, 7, 1, 271, 10),
    "city": (500, 31, 5, 2, 0, 200, 28),
    "ade": (2000, 163, 78, 27, 2, 46, 70),
    "coco-object": (5000, 427, 31, 36, 130, 39, 56),
}
every_dataset = pytest.mark.parametrize("dataset", COUNTS)


def _phrases(caption: str) -> list[str]:
    pieces = re.split("[(),]", caption.lower().removesuffix("."))
    return [piece.strip() for piece in pieces if piece.strip()]


def _count(reading: Reading, dataset: str, parity: Path, captions: Path, tokenizer: Any) -> Counter[str]:
    """Faults over all captions; every class that a phrase names letter by letter is present."""
    settings = json.loads((parity / f"captions-{dataset}.json").read_text())
    background, missing = settings["add_background_token"], settings["add_missing_class"]
    names = class_names("goca", {"city": "cityscapes", "ade": "ade20k"}.get(dataset, dataset))
    counts: Counter[str] = Counter()
    for caption in read_captions(captions / f"{dataset}.json").values():
        phrases = _phrases(caption)
        present = [index for index, synonyms in enumerate(names) if {*synonyms} & {*phrases}]
        named = {min(found) for phrase in phrases if (found := [i for i in present if phrase in names[i]])}
        alone, said = reading(caption, names, present, background, False)
        prompt, _ = reading(caption, names, present, background, missing)
        stream = stream_tokens(tokenizer, prompt, "clip", 77)
        others = [columns for columns in stream.background if columns]
        counts["captions"] += 1
        counts["lacks a phrase"] += any(phrase not in alone.text.lower() for phrase in phrases)
        counts["a class without token"] += any(not columns for columns in stream.classes)
        counts["one group"] += len(stream.classes) + len(others) == 1
        counts["no class"] += not prompt.classes
        counts["no background"] += not others
        counts["loses a class"] += not named <= {*said}
        counts["cut"] += bool(stream.cut)
    return counts


@every_dataset
def test_the_published_reading_loses_what_the_published_code_loses(
    dataset: str, goca_parity: Path, goca_captions: Path, tokenizers: Path
) -> None:
    clip = AutoTokenizer.from_pretrained(tokenizers / "clip")
    counts = _count(published_prompt, dataset, goca_parity, goca_captions, clip)
    assert tuple(counts[fault] for fault in FAULTS) == COUNTS[dataset]


@every_dataset
def test_the_described_reading_loses_nothing(
    dataset: str, goca_parity: Path, goca_captions: Path, tokenizers: Path
) -> None:
    clip = AutoTokenizer.from_pretrained(tokenizers / "clip")
    counts = _count(described_prompt, dataset, goca_parity, goca_captions, clip)
    # One caption is a sentence whose full stop parts it from the group that follows.
    assert counts["lacks a phrase"] == (1 if dataset == "coco-object" else 0)
    assert counts["a class without token"] == counts["loses a class"] == counts["cut"] == 0
