"""Scores of joint or cross-attention before the softmax, with gradients: what mask alignment trains (Seg4Diff)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbone import Backbone
from ..text.conditioning import Conditioning
from .chunks import AttentionCall
from .probe import AttentionProbe
from .sites import Site

EVERYTHING = slice(None)


@dataclass(frozen=True)
class ScoreMeter:
    """Attends as torch does; what a probe watches a module with to see its scores."""

    image: slice
    """Where the image is in the queries."""
    text: slice
    """Where the text is in the keys."""

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """Return the attention's output and q k^T / sqrt(width), averaged over heads: ``(batch, pixels, tokens)``."""
        output = F.scaled_dot_product_attention(
            call.query, call.key, call.value, attn_mask=call.attn_mask, scale=call.factor
        )
        queries, keys = (part.transpose(1, 2).flatten(2).float() for part in (call.query, call.key))
        products = queries[:, self.image] @ keys[:, self.text].transpose(1, 2)
        return output, products * (call.factor / call.query.shape[1])


def text_columns(backbone: Backbone, site: Site, text_length: int) -> tuple[slice, slice]:
    """Image rows and text columns of the attention on text, joint or not."""
    return backbone.joint_columns(site, text_length) if site.kind == "joint" else (EVERYTHING, EVERYTHING)


def denoise_with_scores(
    backbone: Backbone, site: Site, latents: Tensor, timesteps: list[float], conditioning: Conditioning
) -> tuple[Tensor, Tensor]:
    """Run the denoiser on noised latents ``(n, channels, height, width)``.

    Returns:
        Its output, and the scores of ``site``, float32 ``(n, pixels, tokens)``.
    """
    assert site.text_module is not None
    meter = ScoreMeter(*text_columns(backbone, site, conditioning.text_length))
    with AttentionProbe(backbone.denoiser, {site.text_module: meter}) as probe:
        fed = torch.tensor(timesteps, device=latents.device)
        output = backbone.denoise(latents.to(backbone.dtype), fed, conditioning)
    return output, probe.observations[site.text_module]
