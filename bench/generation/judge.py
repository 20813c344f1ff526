"""The judge of pocket pictures: which objects a picture shows, on which ground, and what its latent is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor

from ...backbones.latents.images import pixel_values
from ...backbones.latents.pictures import latents_of
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...backbones.loading.file_digests import digest
from ...backbones.loading.pretrained import resolve_weights
from ...datasets.pocket import GROUNDS, OBJECTS, SIZE
from ..evaluation.metrics import Floats
from .judge_files import WEIGHTS, load_reference
from .judge_network import JudgeNetwork

SHOWN_PIXELS = 50
"""The smallest area, tried in steps of ten pixels, that gives a precision of 99 % on 256 decoded scenes.

Those scenes have a seed of their own."""
POOLED = 4
"""Side of the pooled latent."""
BATCH = 50


@dataclass(frozen=True)
class Seen:
    """What the judge sees in pictures."""

    objects: NDArray[np.bool_]
    """``(pictures, 12)``: which of ``OBJECTS`` cover at least ``SHOWN_PIXELS`` pixels."""
    ground: NDArray[np.int64]
    """``(pictures,)``: which of ``GROUNDS`` covers most pixels."""
    features: Floats
    """``(pictures, 64)``: the scaled latent, pooled to 4 x 4 of 4 channels."""


class Judge:
    """The shipped segmenter, the autoencoder that all twins share, and the latents of 5,000 real scenes."""

    def __init__(self) -> None:
        """Load the shipped weights."""
        tensors = load_file(WEIGHTS)
        self.reference = load_reference()
        self.id = f"{digest(WEIGHTS)[:12]}, {SHOWN_PIXELS} px"
        """Of weights and reference, and the area that counts as shown."""
        self.network = JudgeNetwork()
        self.network.load_state_dict({name: tensors[name].float() for name in self.network.state_dict()})
        self.network.eval()
        self.vae = shared_vae()

    def see(self, pictures: Sequence[Image]) -> Seen:
        """Look at pictures, which are brought to 64 x 64 pixels; none depends on the others."""
        parts = [self._batch(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return Seen(
            np.concatenate([part.objects for part in parts]),
            np.concatenate([part.ground for part in parts]),
            np.concatenate([part.features for part in parts]),
        )

    @torch.no_grad()
    def _batch(self, pictures: Sequence[Image]) -> Seen:
        settings = CaptureSettings(SIZE, Timestep(t=1))
        values = torch.cat([pixel_values(picture, settings) for picture in pictures])
        return Seen(*areas_seen(self.network(values)), pooled_latents(self.vae, values))


def areas_seen(logits: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Objects with enough pixels, and the ground of most, of logits ``(n, classes, height, width)``."""
    areas = F.one_hot(logits.argmax(1).flatten(1), len(OBJECTS) + len(GROUNDS)).sum(1)
    return (areas[:, : len(OBJECTS)] >= SHOWN_PIXELS).numpy(), areas[:, len(OBJECTS) :].argmax(1).numpy()


def pooled_latents(vae: AutoencoderKL, values: Tensor) -> Floats:
    """Pool the scaled latents of images ``(n, 3, 64, 64)`` in [-1, 1] to float64 ``(n, 64)``."""
    return F.adaptive_avg_pool2d(latents_of(vae, values), POOLED).flatten(1).double().numpy()


def shared_vae() -> AutoencoderKL:
    """Load the autoencoder of the pocket twins."""
    return AutoencoderKL.from_pretrained(Path(resolve_weights("pocket:pocket-sd3")) / "vae", torch_dtype=torch.float32)
