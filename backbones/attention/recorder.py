"""What is kept of a module's attention: maps averaged or weighed over heads, and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from .agreement import PixelAttention
from .chunks import AttentionCall, attend_in_chunks
from .kernels import Attended, attend_with_log_sums
from .probe import AttentionProbe, Observer
from .rules import HeadWeighting, HeadWeights
from .ways import Way
from .word_shares import show_word_shares

STEP = 256.0
"""What the identity is multiplied by to recover a weight: in half precision the bias would round it away otherwise."""


@dataclass(frozen=True)
class Target:
    """What to keep of one module's attention."""

    queries: slice
    """Image rows of the query sequence."""
    text: slice | None = None
    """Columns of the text keys."""
    pixels: slice | None = None
    """Columns of the pixel keys whose head mean is kept."""
    needs_map: bool = True
    """Whether that mean itself is needed, or does what it follows from."""
    mean: bool = True
    """Whether the head mean over ``text`` is kept."""
    weightings: tuple[HeadWeighting, ...] = ()
    """Rules that weigh the heads of ``text``."""
    projection: str | None = None
    """The out projection that the rules need, by its qualified name."""
    feature: Literal["query", "output"] | None = None
    """Which feature of the image rows is kept."""

    def way(self, text_way: Way, keys: int) -> Way:
        """Return how a module of so many keys is observed; where text is all of them, chunks are as small."""
        if self.pixels is not None and self.needs_map:
            return "chunked"
        return "chunked" if self.is_text_alone(keys) else text_way

    def is_text_alone(self, keys: int) -> bool:
        """Whether all ``keys`` of the module are text."""
        return self.text is not None and len(range(keys)[self.text]) == keys


@dataclass
class Observation:
    """What was kept of one module, of every row of the batch."""

    way: Way = "chunked"
    """How it was observed."""
    text: Tensor | None = None
    """float32 ``(batch, pixels, tokens)``, averaged over heads."""
    pixels: Tensor | None = None
    """``(batch, query pixels, key pixels)``, averaged over heads."""
    attention: tuple[PixelAttention, ...] | None = None
    """By row: what ``pixels`` follows from, in its place."""
    weighted: dict[HeadWeighting, Tensor] = field(default_factory=dict)
    """As ``text``, by the rule that weighs the heads."""
    feature: Tensor | None = None
    """float32 ``(batch, pixels, heads * width)``."""


def map_probe(
    denoiser: nn.Module,
    targets: Mapping[str, Target],
    pixel_dtype: torch.dtype = torch.float16,
    chunk_bytes: int | None = None,
    observer: Observer[Observation] | None = None,
    text_way: Way = "fused",
) -> AttentionProbe[Observation]:
    """Return a probe that keeps maps.

    Args:
        denoiser: As of ``AttentionProbe``, like ``observer``.
        targets: What to keep, by qualified module name.
        pixel_dtype: Precision of pixel-to-pixel maps.
        chunk_bytes: As of ``attend_in_chunks``.
        observer: Told each module's name and observation.
        text_way: As of ``Ways``. Where a kernel gives no log-sum-exp, attention is observed in chunks.
    """

    def record(target: Target) -> _Recorder:
        projection = None if target.projection is None else denoiser.get_submodule(target.projection)
        return _Recorder(target, projection, pixel_dtype, chunk_bytes, text_way)

    return AttentionProbe(denoiser, {name: record(target) for name, target in targets.items()}, observer)


@dataclass(frozen=True)
class _Recorder:
    """Attends at one module and keeps what its target asks for."""

    target: Target
    projection: nn.Module | None
    pixel_dtype: torch.dtype
    chunk_bytes: int | None
    text_way: Way

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Observation]:
        target = self.target
        fused = target.way(self.text_way, call.key.shape[-2]) == "fused"
        attended = attend_with_log_sums(call) if fused else None
        if attended is None:
            output, observation = self._in_chunks(call)
        else:
            output, observation = attended.output, self._fused(call, attended)
        if target.feature is not None:
            source = call.query if target.feature == "query" else output
            observation.feature = source[:, :, target.queries].float().transpose(1, 2).flatten(2)
        return output, observation

    def _in_chunks(self, call: AttentionCall) -> tuple[Tensor, Observation]:
        reducer = _HeadReducer(self.target, self.projection, call)
        if self.target.pixels is not None:
            reducer.keep_pixels(self.pixel_dtype)
        # Padding is most of a prompt, and what is not looked at stays 0.
        seen = call.without_hidden_keys() if self.target.is_text_alone(call.key.shape[-2]) else call
        output = attend_in_chunks(seen, self.target.queries, reducer.reduce, self.chunk_bytes)
        return output, reducer.observation

    def _fused(self, call: AttentionCall, attended: Attended) -> Observation:
        target, reducer = self.target, _HeadReducer(self.target, self.projection, call)
        if target.text is not None:
            show_word_shares(call, attended, target.queries, target.text, reducer.reduce_words, self.chunk_bytes)
        observation = reducer.observation
        observation.way = "fused"
        if target.pixels is not None:
            observation.attention = _pixel_attention(call, attended, target.queries, target.pixels)
        return observation


def _pixel_attention(
    call: AttentionCall, attended: Attended, queries: slice, pixels: slice
) -> tuple[PixelAttention, ...]:
    joint = len(range(call.key.shape[-2])[pixels]) < call.key.shape[-2]
    parts = (call.query[:, :, queries], call.key[:, :, pixels], attended.log_sums[:, :, queries])
    return tuple(PixelAttention(*rows, call.factor, joint) for rows in zip(*parts, strict=True))


class _HeadReducer:
    """Reduces the probabilities of one module over heads, chunk by chunk."""

    def __init__(self, target: Target, projection: nn.Module | None, call: AttentionCall) -> None:
        query, value = call.query, call.value
        self.target = target
        self.observation = Observation()
        self.call = call
        self.rows = len(range(query.shape[-2])[target.queries])
        self.rules: dict[HeadWeighting, HeadWeights] = {}
        if target.text is None:
            return
        if target.mean:
            self.observation.text = self._no_shares(target.text)
        if target.weightings:
            weight = None if projection is None else projection_weight(projection, query)
            words = value[:, :, target.text].float()
            self.rules = {rule: rule.bind(weight, words) for rule in target.weightings}
            self.observation.weighted = {rule: self._no_shares(target.text) for rule in target.weightings}

    def keep_pixels(self, dtype: torch.dtype) -> None:
        """Keep the head mean over pixel keys, too."""
        assert self.target.pixels is not None
        self.observation.pixels = self.call.query.new_empty(self._shape(self.target.pixels), dtype=dtype)

    def reduce(self, shares: Tensor, outputs: Tensor, start: int) -> None:
        """Take probabilities ``(batch, heads, chunk, keys)`` and outputs alike, of pixels from ``start``."""
        if self.observation.pixels is not None:
            self._put(self.observation.pixels, shares[..., self.target.pixels].mean(1), start)
        if self.target.text is not None:
            self.reduce_words(shares[..., self.target.text], outputs, start)

    def reduce_words(self, words: Tensor, outputs: Tensor, start: int) -> None:
        """Take the probabilities of text keys alone."""
        if self.observation.text is not None:
            self._put(self.observation.text, words.mean(1), start)
        if self.rules:
            outputs = outputs.float()
        for rule, weigh in self.rules.items():
            self._put(self.observation.weighted[rule], (words * weigh(outputs)[..., None]).sum(1), start)

    def _no_shares(self, keys: slice) -> Tensor:
        return self.call.query.new_zeros(self._shape(keys), dtype=torch.float32)

    def _shape(self, keys: slice) -> tuple[int, int, int]:
        return len(self.call.query), self.rows, len(range(self.call.key.shape[-2])[keys])

    @staticmethod
    def _put(kept: Tensor, part: Tensor, start: int) -> None:
        kept[:, start : start + part.shape[1], : part.shape[2]] = part


def projection_weight(projection: nn.Module, like: Tensor) -> Tensor:
    """Return the weight of a linear layer, float32 ``(out, in)``.

    A quantised or offloaded weight is recovered by applying the layer to a multiple of the identity.
    """
    weight = projection.get_parameter("weight")
    if type(weight) is nn.Parameter and weight.is_floating_point() and weight.device == like.device:
        return weight.detach().float()
    columns = projection.in_features
    assert isinstance(columns, int)
    identity = torch.eye(columns, dtype=like.dtype, device=like.device)
    moved = projection(torch.cat([like.new_zeros(1, columns), STEP * identity])).float()
    return (moved[1:] - moved[:1]).T / STEP
