"""Noise levels: from a paper's timestep to what the denoiser is fed and how much noise the latent gets."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from segscale.errors import UserError

from .settings import Timestep

DIFFUSION_STEPS = 1000
FLOW_STEPS = 28
Answers = Literal["flow", "v_prediction", "epsilon", "sample"]
"""What a denoiser predicts of noise n and clean latent x: ``flow`` n - x, ``v_prediction`` signal n - noise x,
``epsilon`` n, or ``sample`` x."""


@dataclass(frozen=True)
class NoiseLevel:
    """What the denoiser is fed, and how much of a noised latent is noise."""

    timestep: float
    """As the scheduler counts it (0..1000)."""
    signal: float
    """Factor of the clean latent."""
    noise: float
    """Factor of the normal draw."""
    answers: Answers = "flow"

    def mix(self, latent: Tensor, draw: Tensor) -> Tensor:
        """Add noise to a latent."""
        return self.signal * latent + self.noise * draw

    def clean(self, noised: Tensor, answer: Tensor) -> Tensor:
        """Return the clean latent that a denoiser's answer means."""
        if self.answers == "sample":
            return answer
        if self.answers == "epsilon":
            return (noised - self.noise * answer) / self.signal
        return (1.0 if self.answers == "flow" else self.signal) * noised - self.noise * answer

    def target(self, clean: Tensor, draw: Tensor) -> Tensor:
        """Return what the denoiser should answer for ``mix(clean, draw)``."""
        if self.answers == "sample":
            return clean
        if self.answers == "epsilon":
            return draw
        if self.answers == "v_prediction":
            return self.signal * draw - self.noise * clean
        return draw - clean


def image_generator(seed: int, dataset: str, image_id: str) -> torch.Generator:
    """Seed a CPU generator for one image, independent of order, batch and process."""
    words = [seed, zlib.crc32(dataset.encode()), zlib.crc32(image_id.encode())]
    state = np.random.SeedSequence(words).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def normal_draws(latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one row from every generator, so that a row depends on no other."""
    draws = [torch.randn(latents[:1].shape, generator=generator) for generator in generators]
    return torch.cat(draws).to(latents.device)


def _schedule(scheduler: Any, steps: int) -> list[float]:
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    return [float(t) for t in scheduler.timesteps]


def diffusion_level(scheduler: Any, timestep: Timestep) -> NoiseLevel:
    """Resolve a timestep for variance-preserving schedulers (PNDM, DDIM, Euler, DPM-Solver).

    ``t`` is entry ``1000 - int(t)`` of a schedule of 1000 inference steps, GoCA's rule.
    """
    if timestep.t is not None:
        schedule = _schedule(scheduler, DIFFUSION_STEPS)
        fed = schedule[DIFFUSION_STEPS - int(timestep.t)]
    else:
        assert timestep.steps is not None
        assert timestep.index is not None
        fed = _schedule(scheduler, timestep.steps)[timestep.index]
    return _level_of_step(scheduler, fed)


def shifted_scheduler(scheduler: Any, steps: int, image_tokens: int, evenly: bool = False) -> Any:
    """Return a copy of a flow-matching scheduler with ``steps`` timesteps.

    The resolution shift ``mu`` of one with dynamic shifting follows the number of image tokens; its levels are evenly
    spaced before that. ``evenly`` spaces them so for any scheduler, as Flux's pipeline does.
    """
    scheduler = copy.deepcopy(scheduler)
    config, levels = scheduler.config, np.linspace(1.0, 1 / steps, steps)
    if config["use_dynamic_shifting"]:
        slope = (config["max_shift"] - config["base_shift"]) / (
            config["max_image_seq_len"] - config["base_image_seq_len"]
        )
        mu = config["base_shift"] + slope * (image_tokens - config["base_image_seq_len"])
        scheduler.set_timesteps(sigmas=levels, mu=mu)
    elif evenly:
        scheduler.set_timesteps(sigmas=levels)
    else:
        scheduler.set_timesteps(steps)
    return scheduler


def flow_level(scheduler: Any, timestep: Timestep, image_tokens: int, evenly: bool = False) -> NoiseLevel:
    """Resolve a timestep for flow matching: signal is 1 - sigma, noise is sigma, the fed timestep 1000 sigma.

    ``t`` is the image-to-image rule at strength t / 1000 over 28 steps, GoCA's rule for Flux. The resolution
    shift ``mu`` of a scheduler with dynamic shifting follows the number of image tokens; ``evenly`` is that of
    ``shifted_scheduler``.
    """
    steps = timestep.steps if timestep.steps is not None else FLOW_STEPS
    if timestep.t is not None:
        index = int(max(steps - min(steps * timestep.t / 1000, steps), 0))
    else:
        assert timestep.index is not None
        index = timestep.index % steps
    scheduler = shifted_scheduler(scheduler, steps, image_tokens, evenly)
    sigma = float(scheduler.sigmas[index])
    return NoiseLevel(float(scheduler.timesteps[index]), 1 - sigma, sigma)


def level_of_share(scheduler: Any, share: float) -> NoiseLevel:
    """The noise level at a share of the schedule in (0, 1), as models are trained: of flow matching it is sigma."""
    if not hasattr(scheduler, "alphas_cumprod"):
        return NoiseLevel(DIFFUSION_STEPS * share, 1 - share, share)
    return _level_of_step(scheduler, float(int(share * len(scheduler.alphas_cumprod))))


def _level_of_step(scheduler: Any, timestep: float) -> NoiseLevel:
    answers = scheduler.config["prediction_type"]
    if answers not in get_args(Answers):
        raise UserError(
            f"a denoiser that predicts {answers!r} is not known", f"known are {', '.join(get_args(Answers))}"
        )
    # Schedules with an offset begin behind the last training step, at 1000.
    step = min(int(timestep), len(scheduler.alphas_cumprod) - 1)
    alpha_bar = float(scheduler.alphas_cumprod[step])
    return NoiseLevel(timestep, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar), answers)
