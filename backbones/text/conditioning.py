"""Prompts as the denoiser is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MASK = "encoder_attention_mask"
"""The denoiser's input that masks padding, of those that do."""


@dataclass(frozen=True)
class Conditioning:
    """What the text encoders made of prompts."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    """Keyword arguments of the denoiser, a row for every prompt."""
    text_length: int = 0
    """Text columns of its attention."""

    def unmasked(self, row: int) -> set[int]:
        """Text columns that attention reads of a prompt: without padding where the denoiser masks it."""
        mask = self.inputs.get(MASK)
        return {*range(self.text_length)} if mask is None else {*mask[row].nonzero()[:, 0].tolist()}

    def rows(self, dtype: torch.dtype) -> list[Conditioning]:
        """Return every prompt alone, floating-point numbers in ``dtype``."""
        inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in self.inputs.items()}
        parts = zip(*(value.split(1) for value in inputs.values()), strict=True)
        return [
            Conditioning({name: part.clone() for name, part in zip(inputs, row, strict=True)}, self.text_length)
            for row in parts
        ]

    def to(self, device: torch.device) -> Conditioning:
        """Return it on ``device``."""
        return Conditioning({name: value.to(device) for name, value in self.inputs.items()}, self.text_length)

    @staticmethod
    def of_rows(rows: Sequence[Conditioning]) -> Conditioning:
        """Put prompts side by side."""
        inputs = {name: torch.cat([row.inputs[name] for row in rows]) for name in rows[0].inputs}
        return Conditioning(inputs, rows[0].text_length)
