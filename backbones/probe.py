"""Observes attention where torch computes it, without touching the denoiser's code.

Forward hooks say which module runs; a torch function mode sees its ``scaled_dot_product_attention`` with
queries and keys after norms, rotary embedding and joint concatenation. At a watched module the softmax is
computed in chunks of queries and reduced over heads at once, and the module's output comes from the same
probabilities. Everywhere else torch's fused kernel runs. Heads x pixels x pixels never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from segscale.errors import UserError

from .reductions import HeadWeighting, HeadWeights

# The probabilities of a chunk should stay in a processor's cache, and keep a GPU busy.
CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}


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


Observer = Callable[[str, Observation], None]


class AttentionProbe(TorchFunctionMode):
    """Context manager around exactly one forward of ``denoiser``.

    targets: qualified module name -> what to keep. pixel_dtype: of pixel-to-pixel maps. chunk_bytes: memory
    that one chunk's float32 probabilities may take, by default what suits the device. observer: told each module's
    name and observation as soon as it is complete; it may take things out.

    After the context, ``observations`` holds one entry per target. A target that did not compute attention
    exactly once through torch raises, naming the module.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        targets: Mapping[str, Target],
        pixel_dtype: torch.dtype = torch.float16,
        chunk_bytes: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.observer = observer
        self.targets = dict(targets)
        self.pixel_dtype = pixel_dtype
        self.chunk_bytes = chunk_bytes
        self.observations: dict[str, Observation] = {}
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> AttentionProbe:
        modules = dict(self.denoiser.named_modules())
        if missing := sorted(self.targets.keys() - modules.keys()):
            raise UserError(
                f"{type(self.denoiser).__name__} has no module {missing[0]}", "list its sites with: segscale sites"
            )
        for name in self.targets:
            self._handles.append(modules[name].register_forward_pre_hook(self._entering(name)))
            self._handles.append(modules[name].register_forward_hook(self._leaving(name)))
        super().__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(exc_type, exc, traceback)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if exc is None and (silent := self.targets.keys() - self.observations.keys()):
            raise _not_observed(sorted(silent)[0], "never ran")

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            if name in self.observations:
                raise _not_observed(name, "ran more than once")
            self._running.append(name)

        return hook

    def _leaving(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            self._running.pop()
            if name not in self.observations:
                raise _not_observed(name, "did not call torch's scaled_dot_product_attention")

        return hook

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or not self._running:
            return func(*args, **kwargs)
        name = self._running[-1]
        if name in self.observations:
            raise _not_observed(name, "called scaled_dot_product_attention more than once")
        target = self.targets[name]
        projection = None if target.projection is None else self.denoiser.get_submodule(target.projection)
        output, seen = _attend(
            *args,
            **kwargs,
            target=target,
            projection=projection,
            pixel_dtype=self.pixel_dtype,
            chunk_bytes=self.chunk_bytes,
        )
        self.observations[name] = seen
        if self.observer is not None:
            self.observer(name, seen)
        return output


def _not_observed(module: str, why: str) -> UserError:
    return UserError(
        f"attention of {module} cannot be observed: it {why}",
        "use the stock attention processor, without fused projections or another attention backend",
    )


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    target: Target,
    projection: nn.Module | None,
    pixel_dtype: torch.dtype,
    chunk_bytes: int | None,
) -> tuple[Tensor, Observation]:
    """Attention output ``(batch, heads, queries, width)`` and what ``target`` asks for."""
    if dropout_p or is_causal or enable_gqa:
        raise ValueError("dropout, causal and grouped attention are not observed")
    batch, heads, length, width = query.shape
    keys = key.shape[-2]
    first, last, _ = target.queries.indices(length)
    factor = width**-0.5 if scale is None else scale
    output = query.new_empty(batch, heads, length, value.shape[-1])
    for start, end in ((0, first), (last, length)):
        if start < end:
            output[:, :, start:end] = F.scaled_dot_product_attention(
                query[:, :, start:end], key, value, _mask_rows(attn_mask, start, end), scale=factor
            )
    keeper = _Keeper(target, projection, query, value, pixel_dtype)
    chunk_bytes = chunk_bytes or CHUNK_BYTES.get(query.device.type, CHUNK_BYTES["cuda"])
    step = max(1, min(last - first, chunk_bytes // (batch * heads * keys * 4)))
    rows, columns, values = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), value.flatten(0, 1)
    # One buffer for all chunks: fresh memory for each would cost more than the arithmetic.
    logits = query.new_empty(batch * heads, step, keys)
    shares = logits if query.dtype == torch.float32 else logits.new_empty(logits.shape, dtype=torch.float32)
    for start in range(first, last, step):
        end = min(start + step, last)
        logit, share = logits[:, : end - start], shares[:, : end - start]
        torch.baddbmm(logit, rows[:, start:end], columns, beta=0, alpha=factor, out=logit)
        _apply_mask(logit.unflatten(0, (batch, heads)), _mask_rows(attn_mask, start, end))
        torch.softmax(logit, dim=-1, dtype=torch.float32, out=share)
        output[:, :, start:end] = torch.bmm(share.to(value.dtype), values).unflatten(0, (batch, heads))
        keeper.keep(share.unflatten(0, (batch, heads))[target.row], output[target.row, :, start:end], start - first)
    if target.feature is not None:
        source = query if target.feature == "query" else output
        keeper.seen.feature = source[target.row, :, first:last].float().transpose(0, 1).flatten(1)
    return output, keeper.seen


class _Keeper:
    """Reduces the probabilities of one module over heads, chunk by chunk."""

    def __init__(
        self, target: Target, projection: nn.Module | None, query: Tensor, value: Tensor, pixel_dtype: torch.dtype
    ) -> None:
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
            self.rules = {rule: rule.at(weight, words) for rule in target.weightings}
            self.seen.weighted = {rule: query.new_empty(shape, dtype=torch.float32) for rule in target.weightings}

    def keep(self, shares: Tensor, outputs: Tensor, start: int) -> None:
        """Probabilities ``(heads, chunk, keys)`` and outputs ``(heads, chunk, width)`` of pixels from ``start``."""
        kept, target = slice(start, start + shares.shape[1]), self.target
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


def _apply_mask(logits: Tensor, mask: Tensor | None) -> None:
    if mask is None:
        return
    if mask.dtype == torch.bool:
        logits.masked_fill_(~mask, float("-inf"))
    else:
        logits.add_(mask)


def _mask_rows(mask: Tensor | None, start: int, end: int) -> Tensor | None:
    """The mask of some queries; a mask that is the same for all queries stays as it is."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., start:end, :]
