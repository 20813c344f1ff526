"""Probabilities of some keys, from the log-sum-exp over all keys: exp(factor q_i k_t + mask_it - l_i)."""

from __future__ import annotations

import torch

from .chunks import AttentionCall, ChunkCallback, apply_mask, mask_rows, queries_per_chunk
from .kernels import Attended


def show_word_shares(
    call: AttentionCall,
    attended: Attended,
    queries: slice,
    words: slice,
    callback: ChunkCallback,
    chunk_bytes: int | None = None,
) -> None:
    """Show the callback the probabilities of ``queries`` on the keys ``words``, in float32 whatever the precision.

    Args:
        call: The attention that was computed.
        attended: Its output and log-sum-exp.
        queries: As of ``attend_in_chunks``.
        words: Keys whose probabilities are shown.
        callback: As of ``attend_in_chunks``, with these keys alone.
        chunk_bytes: As of ``attend_in_chunks``.
    """
    first, last, _ = queries.indices(call.query.shape[-2])
    batch_heads = call.query.shape[:2]
    keys = call.key[:, :, words].float().flatten(0, 1).transpose(1, 2)
    mask = None if call.attn_mask is None else call.attn_mask[..., words]
    rows, sums = call.query.flatten(0, 1), attended.log_sums.flatten(0, 1)[..., None]
    step = queries_per_chunk(call, last - first, keys.shape[-1], chunk_bytes)
    buffer = keys.new_empty(len(keys), step, keys.shape[-1])
    for start in range(first, last, step):
        end = min(start + step, last)
        share = buffer[:, : end - start]
        known = sums[:, start:end].expand_as(share)
        torch.baddbmm(known, rows[:, start:end].float(), keys, beta=-1, alpha=call.factor, out=share)
        shares = share.unflatten(0, batch_heads)
        apply_mask(shares, mask_rows(mask, start, end))
        callback(shares.exp_(), attended.output[:, :, start:end], start - first)
