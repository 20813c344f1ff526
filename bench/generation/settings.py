"""How pictures are drawn: what a command chose, filled up with what the backbone's config recommends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segscale.errors import UserError
from segscale.registry import load_config

from ...backbones.latents.settings import SamplingDefaults
from ...methods.build import method_defaults
from ..tasks.identity import plain_data
from .choices import IDLE_WITHOUT_GUIDANCE, PERTURBING, READ_BY, GuidanceMethod, SamplingChoices
from .record import WIDTH, SamplingSettings


def sampling_settings(backbone_name: str, choices: SamplingChoices, seed: int = 0) -> SamplingSettings:
    """Fill choices up with what the backbone's config recommends.

    Raises:
        UserError: For a choice that the guidance method does not read, a scale at which it does nothing, or a backbone
            whose config recommends nothing where nothing was chosen.
    """
    refuse_unread(choices, [choices.guidance_method])
    config = load_config("backbone", backbone_name, imports=True).get("sampling")
    if config is None and (choices.steps is None or choices.guidance is None):
        problem = f"the config of {backbone_name} recommends no steps and no guidance"
        raise UserError(problem, "name both: --steps 28 --guidance 5")
    defaults = SamplingDefaults(**config) if config else SamplingDefaults(0, 0.0)
    guidance = defaults.guidance if choices.guidance is None else choices.guidance
    if guidance <= 1 and choices.guidance_method in IDLE_WITHOUT_GUIDANCE:
        problem = f"{choices.guidance_method} does nothing at a guidance of {guidance:g}"
        raise UserError(problem, "name a scale above 1")
    return SamplingSettings(
        image_size=choices.size or method_defaults(backbone_name).image_size,
        steps=choices.steps or defaults.steps,
        guidance=guidance,
        guidance_method=choices.guidance_method,
        seed=seed,
        reading=choices.guidance_reading or "published",
        site=_site(backbone_name, choices),
        width=_width(choices),
        shared_noise=choices.shared_noise,
        arguments=plain_data(defaults.arguments),
    )


def refuse_unread(choices: SamplingChoices, methods: Sequence[GuidanceMethod]) -> None:
    """Raise UserError for a choice that none of the guidance methods reads."""
    for name in choices.unread_by(methods):
        verb = "does" if len(methods) == 1 else "do"
        problem = f"{', '.join(methods)} {verb} not read --{name.replace('_', '-')}"
        raise UserError(problem, f"leave it out, or take a method that does: {', '.join(READ_BY[name])}")


def _site(backbone_name: str, choices: SamplingChoices) -> str | None:
    """The block that is perturbed, by default the one that segments best alone; None where none is."""
    if choices.guidance_method not in PERTURBING:
        return None
    return choices.guidance_site or method_defaults(backbone_name).grounding_sites[0]


def _width(choices: SamplingChoices) -> float | None:
    """Of the blur; None: infinite."""
    if choices.guidance_width is None:
        return WIDTH
    return None if math.isinf(choices.guidance_width) else choices.guidance_width
