"""Perturbs the attention on text of one block: its maps are blurred over the image (after Seg4Diff, arXiv 2509.18096).

The paper describes no blur. Here, for every head and text column, the probabilities of the image's rows are taken as a
map and replaced by its Gaussian blur; every row keeps its mass on text, and its attention on pixels. The kernel is cut
at the border and normalised, so that an infinitely wide one is the mean over the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..inputs import PromptedImage
from .chunks import SMALLEST_MASS, AttentionCall, attend_in_chunks
from .probe import AttentionProbe
from .scores import text_columns
from .sites import Grid, Site


@dataclass(frozen=True)
class TextBlur:
    """Attends at one module with blurred text maps in some rows of the batch; what a probe watches a module with."""

    image: slice
    """Where the image is in the queries."""
    text: slice
    """Where the text is in the keys."""
    grid: Grid
    width: float
    """Of the Gaussian, as a share of the image's side; 0 for none, infinite for the mean."""
    rows: Sequence[int]
    """Of the batch."""

    def __call__(self, call: AttentionCall) -> tuple[Tensor, None]:
        """Return the attention's output; rows that are not perturbed are torch's own."""
        output = call.attend()
        if self.width == 0 or not self.rows:
            return output, None
        chosen = _rows(call, list(self.rows))
        shares = self._shares(chosen)
        moved = (self._blurred(shares) - shares).to(call.value.dtype) @ chosen.value[:, :, self.text]
        output = output.clone()
        for place, row in enumerate(self.rows):
            output[row, :, self.image] += moved[place]
        return output, None

    def _shares(self, call: AttentionCall) -> Tensor:
        """Probabilities of image rows on text, float32 ``(batch, heads, pixels, tokens)``."""
        parts: list[Tensor] = []
        attend_in_chunks(call, self.image, lambda shares, *_: parts.append(shares[..., self.text].clone()))
        return torch.cat(parts, dim=2)

    def _blurred(self, shares: Tensor) -> Tensor:
        rows, columns = (blur_matrix(side, self.width, shares.device) for side in (self.grid.height, self.grid.width))
        maps = shares.unflatten(2, (self.grid.height, self.grid.width))
        blurred = torch.einsum("yi,xj,bhijt->bhyxt", rows, columns, maps).flatten(2, 3)
        mass, became = shares.sum(-1, keepdim=True), blurred.sum(-1, keepdim=True)
        return blurred * mass / became.clamp(min=SMALLEST_MASS)


def blur_matrix(side: int, width: float, device: torch.device) -> Tensor:
    """A Gaussian of sigma ``width * side`` along one axis, rows summing to one: float32 ``(side, side)``."""
    if width == 0:
        return torch.eye(side, device=device)
    places = torch.arange(side, dtype=torch.float32, device=device)
    distance = (places[:, None] - places) / (width * side)
    kernel = torch.ones(side, side, device=device) if math.isinf(width) else torch.exp(-(distance**2) / 2)
    return kernel / kernel.sum(1, keepdim=True)


def blur_probe(
    backbone: Backbone, sites: Sequence[Site | None], width: float, text_length: int
) -> AttentionProbe[None]:
    """A probe under which every row of a batch perturbs another block.

    Args:
        backbone: What denoises.
        sites: The block of every row, None for a row as it is.
        width: As of ``TextBlur``.
        text_length: Text columns of the prompts.
    """
    rows: dict[Site, list[int]] = {}
    for row, site in enumerate(sites):
        if site is not None:
            rows.setdefault(site, []).append(row)
    blurs = {
        str(site.text_module): TextBlur(*text_columns(backbone, site, text_length), site.grid, width, own)
        for site, own in rows.items()
    }
    return AttentionProbe(backbone.denoiser, blurs)


@torch.no_grad()
def denoise_perturbed(backbone: Backbone, sites: Sequence[Site | None], image: PromptedImage, width: float) -> Tensor:
    """Denoise one image in a batch whose rows each perturb another block, as of ``blur_probe``.

    Returns:
        float32 ``(rows, channels, height, width)``.
    """
    count = len(sites)
    conditioning = backbone.conditioning([image.prompt.text] * count)
    latents = image.noised.expand(count, -1, -1, -1).to(backbone.dtype)
    timesteps = torch.full((count,), image.level.timestep, device=latents.device)
    with blur_probe(backbone, sites, width, conditioning.text_length):
        return backbone.denoise(latents, timesteps, conditioning).float()


def _rows(call: AttentionCall, rows: list[int]) -> AttentionCall:
    """The call on some rows of its batch."""
    mask = call.attn_mask
    if mask is not None and mask.dim() == 4 and len(mask) > 1:
        mask = mask[rows]
    return replace(call, query=call.query[rows], key=call.key[rows], value=call.value[rows], attn_mask=mask)
