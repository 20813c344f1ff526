"""Encoded prompts of one backbone, so that no text is encoded twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from .cache import TextCache
from .conditioning import Conditioning

REMEMBERED_PROMPTS = 64
Encoder = Callable[[list[str]], Conditioning]


class PromptMemory:
    """The last prompts in memory, and all of them on disk where there is a cache."""

    def __init__(self) -> None:
        """Start with no prompt."""
        self.cache: TextCache | None = None
        self._rows: OrderedDict[str, Conditioning] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def together(self, texts: Sequence[str], encode: Encoder, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """A row for each text; what is not known ``encode`` encodes in one batch."""
        rows = self._rows
        new = [text for text in dict.fromkeys(texts) if text not in rows]
        if self.cache is not None:
            rows.update(self.cache.each(new, device))
            new = [text for text in new if text not in rows]
        if new:
            self._encode_new(new, encode, dtype)
        for text in texts:
            rows.move_to_end(text)
        together = Conditioning.of_rows([rows[text] for text in texts])
        while len(rows) > REMEMBERED_PROMPTS:
            rows.popitem(last=False)
        return together

    @torch.no_grad()
    def _encode_new(self, texts: list[str], encode: Encoder, dtype: torch.dtype) -> None:
        for text, row in zip(texts, encode(texts).rows(dtype), strict=True):
            self._rows[text] = row
            if self.cache is not None:
                self.cache.put(text, row)
