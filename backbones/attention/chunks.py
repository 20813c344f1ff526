"""Attention whose probabilities can be looked at: chunks of queries, one softmax over all keys.

Heads x queries x keys never exists; a callback reduces each chunk at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

# The probabilities of a chunk should stay in a processor's cache, and keep a GPU busy.
CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}
SMALLEST_MASS = 1e-12
"""Sums of probabilities are taken for no less where something is divided by them."""

HIDDEN_BELOW = -1000.0
"""What a mask adds to the logits of hidden keys is less (diffusers adds -10,000): their probabilities are 0."""

ChunkCallback = Callable[[Tensor, Tensor, int], None]


@dataclass(frozen=True)
class AttentionCall:
    """Arguments of one ``scaled_dot_product_attention``, as torch names and orders them.

    Raises:
        ValueError: For dropout, causal and grouped attention.
    """

    query: Tensor
    """``(batch, heads, queries, width)``."""
    key: Tensor
    """``(batch, heads, keys, width)``, like the value."""
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not observed."""
        if self.dropout_p or self.is_causal or self.enable_gqa:
            raise ValueError("dropout, causal and grouped attention are not observed")

    @property
    def factor(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return self.query.shape[-1] ** -0.5 if self.scale is None else self.scale

    def without_hidden_keys(self) -> AttentionCall:
        """Return the same attention without the last keys, where a mask hides them from all queries.

        Only on a CPU: a GPU would have to be waited for.
        """
        mask = self.attn_mask
        if mask is None or mask.device.type != "cpu" or mask.ndim < 2 or mask.shape[-1] != self.key.shape[-2]:
            return self
        visible = mask if mask.dtype == torch.bool else mask > HIDDEN_BELOW
        if not visible.any(-1).all():
            return self
        keys = int(visible.flatten(0, -2).any(0).nonzero()[-1]) + 1
        return replace(self, key=self.key[:, :, :keys], value=self.value[:, :, :keys], attn_mask=mask[..., :keys])

    def attend(self) -> Tensor:
        """Return the output of torch's own kernel, ``(batch, heads, queries, width)``."""
        return F.scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=self.attn_mask, scale=self.factor
        )


def attend_in_chunks(
    call: AttentionCall, queries: slice, callback: ChunkCallback, chunk_bytes: int | None = None
) -> Tensor:
    """Attend, and show the callback the probabilities of ``queries``.

    Args:
        call: The attention to compute.
        queries: The queries whose probabilities are shown; the others go through torch's fused kernel.
        callback: Called with float32 probabilities ``(batch, heads, chunk, keys)``, outputs ``(batch, heads, chunk,
            width)`` and the chunk's first row, counted from the first of ``queries``. Its tensors are reused after it
            returns.
        chunk_bytes: Memory that one chunk's probabilities may take, by default what suits the device.

    Returns:
        The attention's output ``(batch, heads, queries, width)``.
    """
    query, key, value, mask = call.query, call.key, call.value, call.attn_mask
    batch, heads, length, _ = query.shape
    keys = key.shape[-2]
    first, last, _ = queries.indices(length)
    output = query.new_empty(batch, heads, length, value.shape[-1])
    for start, end in ((0, first), (last, length)):
        if start < end:
            output[:, :, start:end] = F.scaled_dot_product_attention(
                query[:, :, start:end], key, value, mask_rows(mask, start, end), scale=call.factor
            )
    step = queries_per_chunk(call, last - first, keys, chunk_bytes)
    rows, columns, values = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), value.flatten(0, 1)
    # One buffer for all chunks: fresh memory for each would cost more than the arithmetic.
    logits = query.new_empty(batch * heads, step, keys)
    shares = logits if query.dtype == torch.float32 else logits.new_empty(logits.shape, dtype=torch.float32)
    for start in range(first, last, step):
        end = min(start + step, last)
        logit, share = logits[:, : end - start], shares[:, : end - start]
        if logit.device.type == "mps":
            logit.zero_()  # its products read what a beta of 0 leaves out, NaN included (pytorch issue 187521)
        torch.baddbmm(logit, rows[:, start:end], columns, beta=0, alpha=call.factor, out=logit)
        apply_mask(logit.unflatten(0, (batch, heads)), mask_rows(mask, start, end))
        torch.softmax(logit, dim=-1, dtype=torch.float32, out=share)
        output[:, :, start:end] = torch.bmm(share.to(value.dtype), values).unflatten(0, (batch, heads))
        callback(share.unflatten(0, (batch, heads)), output[:, :, start:end], start - first)
    return output


def chunk_bytes_on(device: torch.device) -> int:
    """Return the memory of one chunk's probabilities that suits a device."""
    return CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])


def queries_per_chunk(call: AttentionCall, queries: int, keys: int, chunk_bytes: int | None) -> int:
    """Return how many queries have their float32 products with ``keys`` in a chunk."""
    chunk_bytes = chunk_bytes or chunk_bytes_on(call.query.device)
    batch, heads = call.query.shape[:2]
    return max(1, min(queries, chunk_bytes // (batch * heads * keys * 4)))


def apply_mask(logits: Tensor, mask: Tensor | None) -> None:
    """Mask logits ``(batch, heads, queries, keys)`` in place."""
    if mask is None:
        return
    if mask.dtype == torch.bool:
        logits.masked_fill_(~mask, float("-inf"))
    else:
        logits.add_(mask)


def mask_rows(mask: Tensor | None, start: int, end: int) -> Tensor | None:
    """The mask of some queries; a mask that is the same for all queries stays as it is."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., start:end, :]
