"""Queries, keys and values of the image's tokens, as they enter a block's attention on pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..backbone import Backbone
from ..inputs import PromptedImage
from .chunks import AttentionCall
from .probe import AttentionProbe

FeatureKind = Literal["query", "key", "value"]


@dataclass(frozen=True)
class TokenFeatures:
    """Features of one block, after norms and rotary embedding: float32 ``(pixels, heads * width)`` each, on the CPU.

    Those of all blocks of a large model would not fit on its device beside it.
    """

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class FeatureMeter:
    """Attends as torch does and keeps the features of some rows; what a probe watches a module with."""

    image: slice
    """Where the image is in the sequence."""

    def __call__(self, call: AttentionCall) -> tuple[Tensor, TokenFeatures]:
        """Return the attention's output and the features of its first batch row."""
        output = call.attend()
        parts = (part[0, :, self.image].transpose(0, 1).flatten(1) for part in (call.query, call.key, call.value))
        # On the meta device there are shapes alone, which stay there.
        return output, TokenFeatures(*((part if part.is_meta else part.cpu()).float() for part in parts))


@torch.no_grad()
def observe_features(backbone: Backbone, image: PromptedImage, image_size: int) -> dict[str, TokenFeatures]:
    """Features of every site that attends to pixels, in one forward, by the site's name in execution order."""
    conditioning = backbone.conditioning([image.prompt.text])
    meters: dict[str, FeatureMeter] = {}
    names: dict[str, str] = {}
    for site in backbone.sites(image_size):
        if site.pixel_module is not None:
            rows = backbone.joint_columns(site, conditioning.text_length)[0] if site.kind == "joint" else slice(None)
            meters[site.pixel_module] = FeatureMeter(rows)
            names[site.name] = site.pixel_module
    with AttentionProbe(backbone.denoiser, meters) as probe:
        timestep = torch.tensor([image.level.timestep], device=image.noised.device)
        backbone.denoise(image.noised.to(backbone.dtype), timestep, conditioning)
    return {name: probe.observations[module] for name, module in names.items()}
