"""Where the probability mass of joint attention goes, by modality, and how large its values are (Seg4Diff's analyses).

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
    """One joint block on one image.

    i2i, i2t: mass of image queries on image and on text keys, which sum to one; t2i, t2t: of text queries, likewise.
    i2t_words: the part of ``i2t`` on tokens of the prompt; i2t_special: the rest of it, on start, end and padding
    tokens and on the zero rows of a text encoder that was left out. image_value_norm, text_value_norm: Euclidean norm
    of a head's value as it enters the attention, mean over heads and tokens of the modality, for text all columns.
    """

    i2i: float
    i2t: float
    t2i: float
    t2t: float
    i2t_words: float
    i2t_special: float
    image_value_norm: float
    text_value_norm: float


@dataclass(frozen=True)
class ModalityMeter:
    """Attends at a joint module and measures its modalities; what a probe watches a module with.

    image, text: where they are in the joint sequence. words: text columns of the prompt's tokens, counted from the
    first text column. chunk_bytes: as of ``attend_in_chunks``.
    """

    image: slice
    text: slice
    words: tuple[int, ...]
    chunk_bytes: int | None = None

    def __call__(self, call: AttentionCall) -> tuple[Tensor, Modalities]:
        """Attention output and the measures of its first batch row."""
        special = sorted(set(range(self.text.stop - self.text.start)) - set(self.words))
        mass = call.query.new_empty(call.query.shape[-2], 3, dtype=torch.float32)

        def look(shares: Tensor, outputs: Tensor, start: int) -> None:
            mean = shares[0].mean(0)
            text = mean[:, self.text]
            parts = (mean[:, self.image], text[:, list(self.words)], text[:, special])
            mass[start : start + len(mean)] = torch.stack([part.sum(-1) for part in parts], dim=-1)

        output = attend_in_chunks(call, slice(None), look, self.chunk_bytes)
        norms = call.value[0].float().norm(dim=-1)
        i2i, words, rest = mass[self.image].double().mean(0).tolist()
        t2i, *t2t = mass[self.text].double().mean(0).tolist()
        return output, Modalities(
            i2i=i2i,
            i2t=words + rest,
            t2i=t2i,
            t2t=sum(t2t),
            i2t_words=words,
            i2t_special=rest,
            image_value_norm=norms[:, self.image].double().mean().item(),
            text_value_norm=norms[:, self.text].double().mean().item(),
        )


def require_joint(backbone: Backbone, image_size: int) -> None:
    """Raises UserError for a backbone whose attention over text and over pixels is apart."""
    if not any(site.kind == "joint" for site in backbone.sites(image_size)):
        raise UserError(
            f"{backbone.name} has no joint attention over image and text",
            "use a backbone that has one, such as pocket-sd3",
        )


@torch.no_grad()
def observe_modalities(
    backbone: Backbone, noised: Tensor, level: NoiseLevel, prompt: Prompt, image_size: int
) -> dict[str, Modalities]:
    """Measures of every joint site, by name in execution order, from one forward.

    noised: latent ``(1, channels, height, width)``. Raises UserError for a backbone without joint attention.
    """
    require_joint(backbone, image_size)
    conditioning = backbone.conditioning(prompt.text)
    words = tuple(
        column
        for stream in backbone.tokenize(prompt)
        for column in range(stream.offset, stream.offset + stream.length)
        if column not in stream.special
    )
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
