"""Scores of joint or cross-attention before the softmax, with gradients: what mask alignment trains (Seg4Diff)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..backbone import Backbone
from ..inputs import DenoiserInput
from .chunks import AttentionCall
from .gather import EVERYTHING
from .probe import AttentionProbe
from .sites import Site


@dataclass(frozen=True)
class ScoreMeter:
    """Attends as torch does; what a probe watches a module with to see its scores."""

    image: slice
    """Where the image is in the queries."""
    text: slice
    """Where the text is in the keys."""
    mean: bool = True
    """Whether heads are averaged."""

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """Return the attention's output and q k^T / sqrt(width), ``(batch, heads, pixels, tokens)``.

        Heads are one where they are averaged.
        """
        output = call.attend()
        queries, keys = call.query[:, :, self.image].float(), call.key[:, :, self.text].float()
        if not self.mean:
            return output, queries @ keys.transpose(2, 3) * call.factor
        products = queries.transpose(1, 2).flatten(2) @ keys.transpose(1, 2).flatten(2).transpose(1, 2)
        return output, products[:, None] * (call.factor / call.query.shape[1])


def text_columns(backbone: Backbone, site: Site, text_length: int) -> tuple[slice, slice]:
    """Image rows and text columns of the attention on text, joint or not."""
    return backbone.joint_columns(site, text_length) if site.kind == "joint" else (EVERYTHING, EVERYTHING)


def denoise_with_scores(
    backbone: Backbone, site: Site, inputs: DenoiserInput, mean: bool = True
) -> tuple[Tensor, Tensor]:
    """Run the denoiser on noised latents.

    Returns:
        Its output, and the scores of ``site``, float32 ``(n, heads, pixels, tokens)``, as of ``ScoreMeter``.
    """
    assert site.text_module is not None
    meter = ScoreMeter(*text_columns(backbone, site, inputs.conditioning.text_length), mean)
    with AttentionProbe(backbone.denoiser, {site.text_module: meter}) as probe:
        output = backbone.denoise(inputs.latents.to(backbone.dtype), inputs.timesteps, inputs.conditioning)
    return output, probe.observations[site.text_module]
