"""Observes attention where torch computes it, without touching the denoiser's code.

Forward hooks say which module runs; a torch function mode sees its ``scaled_dot_product_attention`` with
queries and keys after norms, rotary embedding and joint concatenation. At a watched module the softmax is
computed in chunks of queries and reduced over heads at once, and the module's output comes from the same
probabilities. Everywhere else torch's fused kernel runs. Heads x pixels x pixels never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from segscale.errors import UserError

# The probabilities of a chunk should stay in a processor's cache, and keep a GPU busy.
CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}


@dataclass(frozen=True)
class Target:
    """What to keep of one module's attention.

    queries: image rows of the query sequence. text, pixels: key columns to keep, or None.
    row: batch row to keep.
    """

    queries: slice
    text: slice | None = None
    pixels: slice | None = None
    row: int = 0


@dataclass
class Observation:
    """Head means of one module: text float32 ``(pixels, tokens)``, pixels ``(query pixels, key pixels)``."""

    text: Tensor | None = None
    pixels: Tensor | None = None


class AttentionProbe(TorchFunctionMode):
    """Context manager around exactly one forward of ``denoiser``.

    targets: qualified module name -> what to keep. pixel_dtype: of pixel-to-pixel maps. chunk_bytes: memory
    that one chunk's float32 probabilities may take, by default what suits the device.

    After the context, ``observations`` holds one entry per target. A target that did not compute attention
    exactly once through torch raises, naming the module.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        targets: Mapping[str, Target],
        pixel_dtype: torch.dtype = torch.float16,
        chunk_bytes: int | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
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
        output, self.observations[name] = _attend(
            *args, **kwargs, target=self.targets[name], pixel_dtype=self.pixel_dtype, chunk_bytes=self.chunk_bytes
        )
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
    pixel_dtype: torch.dtype,
    chunk_bytes: int | None,
) -> tuple[Tensor, Observation]:
    """Attention output ``(batch, heads, queries, width)`` and the head means that ``target`` asks for."""
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
    seen = Observation()
    if target.text is not None:
        seen.text = query.new_empty(last - first, len(range(keys)[target.text]), dtype=torch.float32)
    if target.pixels is not None:
        seen.pixels = query.new_empty(last - first, len(range(keys)[target.pixels]), dtype=pixel_dtype)
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
        kept, watched = slice(start - first, end - first), share.unflatten(0, (batch, heads))[target.row]
        if seen.text is not None:
            seen.text[kept] = watched[..., target.text].mean(0)
        if seen.pixels is not None:
            seen.pixels[kept] = watched[..., target.pixels].mean(0)
    return output, seen


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
