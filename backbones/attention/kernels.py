"""Fused attention kernels that also give the log-sum-exp of every query's logits, behind one interface.

Nothing of the size queries x keys exists in them. Which kernel runs is torch's own choice, so the output is that of the
plain forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from .chunks import AttentionCall

ALIGNED = 8
"""Head widths that CUDA's flash kernel takes are multiples of this."""
ALIGNED_KEYS = 16
"""Rows of a mask begin at multiples of this for CUDA's kernels."""


@dataclass(frozen=True)
class Attended:
    """What a fused kernel returns."""

    output: Tensor
    """``(batch, heads, queries, width)``."""
    log_sums: Tensor
    """float32 ``(batch, heads, queries)``: l_i = log sum_j exp(factor q_i k_j + mask_ij)."""


Kernel = Callable[[AttentionCall, Tensor | None], tuple[Tensor, Tensor]]


def attend_with_log_sums(call: AttentionCall) -> Attended | None:
    """Attend by the kernel that torch would choose; None where that one gives no log-sum-exp."""
    device = call.query.device.type
    kernel = KERNELS.get((device, _choice(call)))
    if kernel is None:
        return None
    output, log_sums = kernel(call, _additive(call.attn_mask, call.query.dtype))
    # Kernels pad the queries, or leave an axis of one behind them.
    return Attended(output, log_sums.flatten(2)[..., : call.query.shape[-2]])


def _choice(call: AttentionCall) -> SDPBackend:
    if call.query.device.type == "meta":
        return SDPBackend.FLASH_ATTENTION if call.attn_mask is None else SDPBackend.EFFICIENT_ATTENTION
    choose: Any = torch._fused_sdp_choice  # pyright: ignore[reportPrivateImportUsage]
    choice = choose(call.query, call.key, call.value, call.attn_mask, scale=call.factor)
    return SDPBackend(choice)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


def _flash_cpu(call: AttentionCall, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        call.query, call.key, call.value, attn_mask=mask, scale=call.factor
    )


def _flash_cuda(call: AttentionCall, _mask: Tensor | None) -> tuple[Tensor, Tensor]:
    width = call.query.shape[-1]
    padded = [F.pad(tensor, (0, -width % ALIGNED)) for tensor in (call.query, call.key, call.value)]
    output, log_sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(*padded, scale=call.factor)
    return output[..., :width], log_sums


def _efficient_cuda(call: AttentionCall, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    output, log_sums, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        call.query, call.key, call.value, _aligned(mask, call), compute_log_sumexp=True, scale=call.factor
    )
    return output, log_sums


def _cudnn(call: AttentionCall, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    output, log_sums, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        call.query, call.key, call.value, _aligned(mask, call), compute_log_sumexp=True, scale=call.factor
    )
    return output, log_sums


def _aligned(mask: Tensor | None, call: AttentionCall) -> Tensor | None:
    """The mask at its full size ``(batch, heads, queries, keys)``, as a view of aligned rows."""
    if mask is None:
        return None
    keys = mask.shape[-1]
    aligned = F.pad(mask, (0, -keys % ALIGNED_KEYS))[..., :keys]
    return aligned.expand(*call.query.shape[:-1], keys)


KERNELS: dict[tuple[str, SDPBackend], Kernel] = {
    ("cpu", SDPBackend.FLASH_ATTENTION): _flash_cpu,
    ("cuda", SDPBackend.FLASH_ATTENTION): _flash_cuda,
    ("cuda", SDPBackend.EFFICIENT_ATTENTION): _efficient_cuda,
    ("cuda", SDPBackend.CUDNN_ATTENTION): _cudnn,
    # Shapes alone, as on a GPU.
    ("meta", SDPBackend.FLASH_ATTENTION): _flash_cuda,
    ("meta", SDPBackend.EFFICIENT_ATTENTION): _efficient_cuda,
}
"""By device and torch's choice."""
