"""What is kept of a module's attention: maps averaged or weighed over heads, and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from .chunks import AttentionCall, attend_in_chunks
from .probe import AttentionProbe, Observer
from .rules import HeadWeighting, HeadWeights


@dataclass(frozen=True)
class Target:
    """What to keep of one module's attention, of the batch's first row."""

    queries: slice
    """Image rows of the query sequence."""
    text: slice | None = None
    """Columns of the text keys."""
    pixels: slice | None = None
    """Columns of pixel keys whose head mean is kept."""
    mean: bool = True
    """Whether the head mean over ``text`` is kept."""
    weightings: tuple[HeadWeighting, ...] = ()
    """Rules that weigh the heads of ``text``."""
    projection: str | None = None
    """The out projection that the rules need, by its qualified name."""
    feature: Literal["query", "output"] | None = None
    """Which feature of the image rows is kept."""


@dataclass
class Observation:
    """What was kept of one module."""

    text: Tensor | None = None
    """float32 ``(pixels, tokens)``, averaged over heads."""
    pixels: Tensor | None = None
    """``(query pixels, key pixels)``, averaged over heads."""
    weighted: dict[HeadWeighting, Tensor] = field(default_factory=dict)
    """As ``text``, by the rule that weighs the heads."""
    feature: Tensor | None = None
    """float32 ``(pixels, heads * width)``."""


def map_probe(
    denoiser: nn.Module,
    targets: Mapping[str, Target],
    pixel_dtype: torch.dtype = torch.float16,
    chunk_bytes: int | None = None,
    observer: Observer[Observation] | None = None,
) -> AttentionProbe[Observation]:
    """Return a probe that keeps maps.

    Args:
        denoiser: As of ``AttentionProbe``, like ``observer``.
        targets: What to keep, by qualified module name.
        pixel_dtype: Precision of pixel-to-pixel maps.
        chunk_bytes: As of ``attend_in_chunks``.
        observer: Told each module's name and observation.
    """

    def record(target: Target) -> _Recorder:
        projection = None if target.projection is None else denoiser.get_submodule(target.projection)
        return _Recorder(target, projection, pixel_dtype, chunk_bytes)

    return AttentionProbe(denoiser, {name: record(target) for name, target in targets.items()}, observer)


@dataclass(frozen=True)
class _Recorder:
    """Attends at one module and keeps what its target asks for."""

    target: Target
    projection: nn.Module | None
    pixel_dtype: torch.dtype
    chunk_bytes: int | None

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Observation]:
        target, reducer = self.target, _HeadReducer(self.target, self.projection, call, self.pixel_dtype)
        output = attend_in_chunks(call, target.queries, reducer, self.chunk_bytes)
        if target.feature is not None:
            source = call.query if target.feature == "query" else output
            reducer.observation.feature = source[0, :, target.queries].float().transpose(0, 1).flatten(1)
        return output, reducer.observation


class _HeadReducer:
    """Reduces the probabilities of one module over heads, chunk by chunk."""

    def __init__(
        self, target: Target, projection: nn.Module | None, call: AttentionCall, pixel_dtype: torch.dtype
    ) -> None:
        query, value = call.query, call.value
        self.target = target
        self.observation = Observation()
        length, keys = query.shape[-2], value.shape[-2]
        rows = len(range(length)[target.queries])
        self.rules: dict[HeadWeighting, HeadWeights] = {}
        if target.pixels is not None:
            self.observation.pixels = query.new_empty(rows, len(range(keys)[target.pixels]), dtype=pixel_dtype)
        if target.text is None:
            return
        shape = (rows, len(range(keys)[target.text]))
        if target.mean:
            self.observation.text = query.new_empty(shape, dtype=torch.float32)
        if target.weightings:
            weight = None if projection is None else projection_weight(projection, query)
            words = value[0, :, target.text].float()
            self.rules = {rule: rule.bind(weight, words) for rule in target.weightings}
            self.observation.weighted = {
                rule: query.new_empty(shape, dtype=torch.float32) for rule in target.weightings
            }

    def __call__(self, shares: Tensor, outputs: Tensor, start: int) -> None:
        """Take probabilities ``(batch, heads, chunk, keys)`` and outputs alike, of pixels from ``start``."""
        target = self.target
        shares, outputs = shares[0], outputs[0]
        kept = slice(start, start + shares.shape[1])
        if self.observation.pixels is not None:
            self.observation.pixels[kept] = shares[..., target.pixels].mean(0)
        if target.text is None:
            return
        words = shares[..., target.text]
        if self.observation.text is not None:
            self.observation.text[kept] = words.mean(0)
        if self.rules:
            outputs = outputs.float()
        for rule, weigh in self.rules.items():
            self.observation.weighted[rule][kept] = (words * weigh(outputs)[..., None]).sum(0)


def projection_weight(projection: nn.Module, like: Tensor) -> Tensor:
    """Return the weight of a linear layer, float32 ``(out, in)``.

    A quantised or offloaded weight is recovered by applying the layer to the identity.
    """
    weight = projection.get_parameter("weight")
    if type(weight) is nn.Parameter and weight.is_floating_point() and weight.device == like.device:
        return weight.detach().float()
    columns = projection.in_features
    assert isinstance(columns, int)
    steps = torch.cat([like.new_zeros(1, columns), torch.eye(columns, dtype=like.dtype, device=like.device)])
    moved = projection(steps).float()
    return (moved[1:] - moved[:1]).T
