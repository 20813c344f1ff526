"""Seg4Diff's analyses: where the mass of joint attention goes, by modality, and how large its values are.

Probabilities are those of the one softmax over all keys, averaged over heads, then over the queries of a modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segscale.errors import UserError
from segscale.prompt import Prompt

from ..backbone import Backbone
from ..latents.noise import NoiseLevel
from .chunks import AttentionCall, attend_in_chunks
from .probe import AttentionProbe


@dataclass(frozen=True)
class Modalities:
    """Measures of one joint block on one image."""

    i2i: float
    """Mass of image queries on image keys."""
    i2t: float
    """Mass of image queries on text keys; it sums to one with ``i2i``."""
    t2i: float
    """Mass of text queries on image keys."""
    t2t: float
    """Mass of text queries on text keys; it sums to one with ``t2i``."""
    i2t_words: float
    """The part of ``i2t`` on tokens of the prompt."""
    i2t_special: float
    """The rest of it: on start, end and padding tokens, and on the zero rows of a text encoder that was left out."""
    image_value_norm: float
    """Euclidean norm of a head's value as it enters the attention, averaged over heads and image tokens."""
    text_value_norm: float
    """The same over all text columns."""


@dataclass(frozen=True)
class ModalityMeter:
    """Attends at a joint module and measures its modalities; what a probe watches a module with."""

    image: slice
    """Where the image is in the joint sequence."""
    text: slice
    """Where the text is."""
    words: tuple[int, ...]
    """Text columns of the prompt's tokens, counted from the first text column."""
    chunk_bytes: int | None = None
    """As of ``attend_in_chunks``."""

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Modalities]:
        """Return the attention's output and the measures of its first batch row."""
        special = sorted(set(range(self.text.stop - self.text.start)) - set(self.words))
        mass = call.query.new_empty(call.query.shape[-2], 3, dtype=torch.float32)

        def measure(shares: Tensor, _outputs: Tensor, start: int) -> None:
            mean = shares[0].mean(0)
            text = mean[:, self.text]
            parts = (mean[:, self.image], text[:, list(self.words)], text[:, special])
            mass[start : start + len(mean)] = torch.stack([part.sum(-1) for part in parts], dim=-1)

        output = attend_in_chunks(call, slice(None), measure, self.chunk_bytes)
        # Not every device has float64.
        sums, norms = (each.cpu().double() for each in (mass, call.value[0].float().norm(dim=-1)))
        i2i, words, rest = sums[self.image].mean(0).tolist()
        t2i, *t2t = sums[self.text].mean(0).tolist()
        return output, Modalities(
            i2i=i2i,
            i2t=words + rest,
            t2i=t2i,
            t2t=sum(t2t),
            i2t_words=words,
            i2t_special=rest,
            image_value_norm=norms[:, self.image].mean().item(),
            text_value_norm=norms[:, self.text].mean().item(),
        )


def require_joint(backbone: Backbone, image_size: int) -> None:
    """Raise UserError for a backbone whose attention over text and over pixels is apart."""
    if not any(site.kind == "joint" for site in backbone.sites(image_size)):
        raise UserError(
            f"{backbone.name} has no joint attention over image and text",
            "use a backbone that has one, such as pocket-sd3",
        )


@torch.no_grad()
def observe_modalities(
    backbone: Backbone, noised: Tensor, level: NoiseLevel, prompt: Prompt, image_size: int
) -> dict[str, Modalities]:
    """Measure every joint site in one forward of a noised latent ``(1, channels, height, width)``.

    Returns:
        The measures by the site's name, in execution order.

    Raises:
        UserError: For a backbone without joint attention.
    """
    require_joint(backbone, image_size)
    conditioning = backbone.conditioning([prompt.text])
    words = tuple(column for stream in backbone.tokenize(prompt) for column in stream.words)
    meters: dict[str, ModalityMeter] = {}
    names: dict[str, str] = {}
    for site in backbone.sites(image_size):
        if site.kind == "joint" and site.text_module is not None:
            meters[site.text_module] = ModalityMeter(*backbone.joint_columns(site, conditioning.text_length), words)
            names[site.name] = site.text_module
    with AttentionProbe(backbone.denoiser, meters) as probe:
        timestep = torch.tensor([level.timestep], device=noised.device)
        backbone.denoise(noised.to(backbone.dtype), timestep, conditioning)
    return {name: probe.observations[module] for name, module in names.items()}
