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
    """What to keep of one module's attention.

    queries: image rows of the query sequence. text: columns of the text keys. pixels: columns of pixel keys whose
    head mean is wanted. mean: whether the head mean over ``text`` is wanted. weightings: rules that weigh its heads;
    projection: the out projection that they need. feature: of the image rows, ``query`` or attention ``output``.
    row: batch row to keep.
    """

    queries: slice
    text: slice | None = None
    pixels: slice | None = None
    mean: bool = True
    weightings: tuple[HeadWeighting, ...] = ()
    projection: str | None = None
    feature: Literal["query", "output"] | None = None
    row: int = 0


@dataclass
class Observation:
    """What was kept of one module.

    text: float32 ``(pixels, tokens)``, head mean; weighted: the same per rule. pixels: ``(query pixels, key
    pixels)``, head mean. feature: float32 ``(pixels, heads * width)``.
    """

    text: Tensor | None = None
    pixels: Tensor | None = None
    weighted: dict[HeadWeighting, Tensor] = field(default_factory=dict)
    feature: Tensor | None = None


def map_probe(
    denoiser: nn.Module,
    targets: Mapping[str, Target],
    pixel_dtype: torch.dtype = torch.float16,
    chunk_bytes: int | None = None,
    observer: Observer[Observation] | None = None,
) -> AttentionProbe[Observation]:
    """A probe that keeps maps: qualified module name -> what to keep; the rest is as in probe and chunks.

    pixel_dtype: of pixel-to-pixel maps.
    """

    def keeping(target: Target) -> _KeepMaps:
        projection = None if target.projection is None else denoiser.get_submodule(target.projection)
        return _KeepMaps(target, projection, pixel_dtype, chunk_bytes)

    return AttentionProbe(denoiser, {name: keeping(target) for name, target in targets.items()}, observer)


@dataclass(frozen=True)
class _KeepMaps:
    """Attends at one module and keeps what ``target`` asks for."""

    target: Target
    projection: nn.Module | None
    pixel_dtype: torch.dtype
    chunk_bytes: int | None

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Observation]:
        target, keeper = self.target, _Keeper(self.target, self.projection, call, self.pixel_dtype)
        output = attend_in_chunks(call, target.queries, keeper.keep, self.chunk_bytes)
        if target.feature is not None:
            source = call.query if target.feature == "query" else output
            keeper.seen.feature = source[target.row, :, target.queries].float().transpose(0, 1).flatten(1)
        return output, keeper.seen


class _Keeper:
    """Reduces the probabilities of one module over heads, chunk by chunk."""

    def __init__(
        self, target: Target, projection: nn.Module | None, call: AttentionCall, pixel_dtype: torch.dtype
    ) -> None:
        query, value = call.query, call.value
        self.target = target
        self.seen = Observation()
        length, keys = query.shape[-2], value.shape[-2]
        rows = len(range(length)[target.queries])
        self.rules: dict[HeadWeighting, HeadWeights] = {}
        if target.pixels is not None:
            self.seen.pixels = query.new_empty(rows, len(range(keys)[target.pixels]), dtype=pixel_dtype)
        if target.text is None:
            return
        shape = (rows, len(range(keys)[target.text]))
        if target.mean:
            self.seen.text = query.new_empty(shape, dtype=torch.float32)
        if target.weightings:
            weight = None if projection is None else projection_weight(projection, query)
            words = value[target.row, :, target.text].float()
            self.rules = {rule: rule.bind(weight, words) for rule in target.weightings}
            self.seen.weighted = {rule: query.new_empty(shape, dtype=torch.float32) for rule in target.weightings}

    def keep(self, shares: Tensor, outputs: Tensor, start: int) -> None:
        """Probabilities ``(batch, heads, chunk, keys)`` and outputs alike, of pixels from ``start``."""
        target = self.target
        shares, outputs = shares[target.row], outputs[target.row]
        kept = slice(start, start + shares.shape[1])
        if self.seen.pixels is not None:
            self.seen.pixels[kept] = shares[..., target.pixels].mean(0)
        if target.text is None:
            return
        words = shares[..., target.text]
        if self.seen.text is not None:
            self.seen.text[kept] = words.mean(0)
        if self.rules:
            outputs = outputs.float()
        for rule, weigh in self.rules.items():
            self.seen.weighted[rule][kept] = (words * weigh(outputs)[..., None]).sum(0)


def projection_weight(projection: nn.Module, like: Tensor) -> Tensor:
    """Weight of a linear layer, float32 ``(out, in)``; read off what it does where it is quantised or offloaded."""
    weight = projection.get_parameter("weight")
    if type(weight) is nn.Parameter and weight.is_floating_point() and weight.device == like.device:
        return weight.detach().float()
    columns = projection.in_features
    assert isinstance(columns, int)
    steps = torch.cat([like.new_zeros(1, columns), torch.eye(columns, dtype=like.dtype, device=like.device)])
    moved = projection(steps).float()
    return (moved[1:] - moved[:1]).T
