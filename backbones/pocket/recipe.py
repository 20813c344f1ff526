"""How long and on what a denoiser is trained."""

from __future__ import annotations

from dataclasses import dataclass

from ...datasets.generated import TRAIN_SCENES


@dataclass(frozen=True)
class Recipe:
    """The training of one denoiser."""

    steps: int
    """Of 32 scenes each; the step size falls over all of them."""
    scenes: int = TRAIN_SCENES
    """How many of the scenes are drawn from."""
    caption_noise: float = 0.0
    """Probability that a word of a caption is replaced by any word of its kind."""
    seed: int = 0
    """Of batches, captions and noise."""
