"""The ladder: pocket twins of two families that differ from a common rung in one thing at a time.

A rung is a denoiser alone; autoencoder and text encoders are those of its family's twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ...datasets.generated import TRAIN_SCENES
from .recipe import Recipe

Family = Literal["sd15", "sd3"]
Varied = Literal["steps", "width", "depth", "caption noise", "scenes"]

COMMON_STEPS = 500
SEEDS = (0, 1, 2)
DEPTHS: dict[Family, int] = {"sd15": 1, "sd3": 6}
"""Of the family's twin: blocks per level, or joint blocks."""


@dataclass(frozen=True)
class Rung:
    """One denoiser of the ladder."""

    family: Family
    steps: int = COMMON_STEPS
    """Training steps of 32 scenes, with a cosine step size over all of them."""
    width: float = 1.0
    """Factor of the channels."""
    depth: int | None = None
    """As of ``DEPTHS``, None for the twin's own."""
    caption_noise: float = 0.0
    """Probability that a word of a training caption is replaced."""
    scenes: int = TRAIN_SCENES
    """How many scenes it is trained on."""
    seed: int = 0
    """Of initial weights, batches, captions and noise."""

    @property
    def name(self) -> str:
        """Of its config, such as ``pocket-sd15-500-width50-seed1``."""
        parts = {
            "width": (self.width != 1, f"width{100 * self.width:.0f}"),
            "depth": (self.depth is not None, f"depth{self.depth}"),
            "noise": (self.caption_noise > 0, f"noise{100 * self.caption_noise:.0f}"),
            "scenes": (self.scenes != TRAIN_SCENES, f"scenes{self.scenes}"),
        }
        differing = [text for differs, text in parts.values() if differs]
        return "-".join(["pocket", self.family, str(self.steps), *differing, f"seed{self.seed}"])

    @property
    def varied(self) -> Varied:
        """What tells it from the common rung; of that itself, the steps."""
        if self.width != 1:
            return "width"
        if self.depth is not None:
            return "depth"
        if self.caption_noise:
            return "caption noise"
        return "steps" if self.scenes == TRAIN_SCENES else "scenes"

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe(self.steps, self.scenes, self.caption_noise, self.seed)


# In the order of training: what answers most comes first.
_SEEDLESS: tuple[Rung, ...] = (
    *(Rung("sd15", steps) for steps in (60, 125, 250, 500, 1000)),
    Rung("sd15", width=0.5),
    Rung("sd15", caption_noise=0.3),
    Rung("sd15", scenes=300),
    *(Rung("sd3", steps) for steps in (60, 125, 250, 500)),
    Rung("sd15", depth=2),
    Rung("sd15", width=2.0),
    Rung("sd15", caption_noise=0.6),
    Rung("sd15", scenes=1000),
    Rung("sd3", width=0.5),
    Rung("sd3", caption_noise=0.3),
    Rung("sd3", scenes=300),
    Rung("sd3", depth=4),
    Rung("sd3", width=2.0),
    Rung("sd3", 1000),
    Rung("sd15", 2000),
    Rung("sd3", 2000),
)
TOP: dict[str, Rung] = {"pocket-sd15": Rung("sd15", 2000), "pocket-sd3": Rung("sd3", 1500)}
"""The shipped twins as rungs of their families."""

RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (replace(rung, seed=seed) for seed in SEEDS for rung in _SEEDLESS)
    if rung not in TOP.values()
}
"""All but the shipped twins, by name."""


def rung_of(backbone_name: str) -> Rung | None:
    """Return the rung that a backbone is, None for one that is on no ladder."""
    return (RUNGS | TOP).get(backbone_name)


def family_of(backbone_name: str) -> str:
    """The family of a rung; of a backbone that is on no ladder, its own name."""
    rung = rung_of(backbone_name)
    return backbone_name if rung is None else rung.family


def configuration_of(backbone_name: str) -> str:
    """What the seeds of one rung share: the name of that of seed 0."""
    rung = rung_of(backbone_name)
    return backbone_name if rung is None else replace(rung, seed=0).name


def without_seed(rung_name: str) -> str:
    """What to call all seeds of a rung, given the name of one of them."""
    return rung_name.split("-seed")[0]


def config_text(rung: Rung, weights: str) -> str:
    """The config of a rung whose denoiser is in the folder ``weights``."""
    return "\n".join([*_config_lines(rung, weights), ""])


def _config_lines(rung: Rung, weights: str) -> Iterator[str]:
    kind = "U-Net" if rung.family == "sd15" else "MM-DiT"
    yield f'"""Rung of the pocket ladder: {kind}, {rung.steps} steps, {rung.varied} varied, seed {rung.seed}."""\n'
    yield f'_base_ = ["segscale::backbones/pocket-{rung.family}.py"]\n'
    yield f'denoiser_weights = "{weights}"'
    if rung.family == "sd3" and rung.depth is not None:
        # The places of the twin's own blocks, counted from the last one.
        last = rung.depth - 1
        yield "method_defaults = dict("
        yield f'    reference_site="vit-block{last - 1}",'
        yield f'    affinity_sites=("vit-block{last - 2}", "vit-block{last - 1}"),'
        yield ")"
        yield f'presets = dict(baseline=dict(text_sites=("vit-block{last - 1}", "vit-block{last}")))'
