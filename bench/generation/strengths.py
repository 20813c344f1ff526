"""Power against the strength of guidance, by guidance method; and power with one block blurred, by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import pandas as pd

from ...backbones.attention.sites import Site
from ..runs.options import RunOptions
from .choices import GuidanceMethod, Networks, SamplingChoices
from .paired import difference_columns
from .power import DrawnCaptions, draw_to_measure, is_judged, refuse_few
from .power_record import StoredPower, write_power
from .power_tables import in_percent
from .settings import sampling_settings

PLAIN: GuidanceMethod = "cfg"


@dataclass(frozen=True)
class PowerQuestion:
    """Whose pictures are measured, and by what."""

    backbone_name: str
    dataset_name: str
    choices: SamplingChoices
    networks: Networks
    options: RunOptions

    def check(self, choices: SamplingChoices) -> None:
        """Raise UserError where pictures with these choices cannot be drawn or measured."""
        settings = sampling_settings(self.backbone_name, choices, self.options.seed)
        is_judged(self.dataset_name, self.networks, settings.image_size)
        if self.options.limit is not None:
            refuse_few(self.options.limit)

    def drawn(self, choices: SamplingChoices) -> DrawnCaptions:
        """The pictures with these choices; what is missing is drawn."""
        settings = sampling_settings(self.backbone_name, choices, self.options.seed)
        return draw_to_measure(self.backbone_name, self.dataset_name, settings, self.networks, self.options)

    def measured(self, choices: SamplingChoices) -> StoredPower:
        """The measurement with these choices, kept like every other."""
        stored = self.drawn(choices).measured(self.networks)
        write_power(self.options.results, stored)
        return stored


def draw_strengths(question: PowerQuestion, methods: Sequence[GuidanceMethod], scales: Sequence[float]) -> None:
    """Draw the pictures that ``measure_strengths`` measures, in its order, beside the process that does."""
    for _, by_method in _guided(question, methods, scales):
        for choices in by_method.values():
            question.drawn(choices)


def measure_strengths(
    question: PowerQuestion, methods: Sequence[GuidanceMethod], scales: Sequence[float]
) -> pd.DataFrame:
    """Measure every method at every scale, on the same captions and noise.

    Returns:
        One row per method, scale and measure: value, low, high (shares in percent), and what it differs by from the
        reference at the same scale, where that can be paired: the first of ``GuidanceMethod`` that is among them.
    """
    rows: list[dict[str, object]] = []
    reference = next(method for method in get_args(GuidanceMethod) if method in methods)
    for scale, by_method in _guided(question, methods, scales):
        stored = {method: question.measured(choices) for method, choices in by_method.items()}
        for method, each in stored.items():
            facts: dict[str, object] = {"method": method, "scale": scale, "reference": reference}
            rows += [facts | row for row in _rows(each, stored[reference])]
    return pd.DataFrame(rows)


def _guided(
    question: PowerQuestion, methods: Sequence[GuidanceMethod], scales: Sequence[float]
) -> list[tuple[float, dict[GuidanceMethod, SamplingChoices]]]:
    """Every scale once, from the smallest, with the choices of every method at it.

    Raises:
        UserError: Where one of them could not be drawn or measured, before any is.
    """
    guided: list[tuple[float, dict[GuidanceMethod, SamplingChoices]]] = [
        (scale, {method: replace(question.choices.guided_by(method), guidance=scale) for method in methods})
        for scale in sorted(set(scales))
    ]
    for _, by_method in guided:
        for choices in by_method.values():
            question.check(choices)
    return guided


def measure_blurred_blocks(question: PowerQuestion, sites: Sequence[Site]) -> pd.DataFrame:
    """Measure pictures drawn with one block's attention on text blurred, beside those of the whole model.

    Returns:
        One row per block and measure, as of ``measure_strengths``, with columns layer and site.
    """
    plain = question.measured(question.choices.guided_by(PLAIN))
    rows: list[dict[str, object]] = []
    for site in sites:
        choices = replace(question.choices, guidance_method="blurred-block", guidance_site=site.name)
        facts: dict[str, object] = {"layer": site.layer, "site": site.name}
        rows += [facts | row for row in _rows(question.measured(choices), plain)]
    return pd.DataFrame(rows)


def _rows(stored: StoredPower, reference: StoredPower) -> list[dict[str, object]]:
    record, settings = stored.record, stored.record.plan.settings
    facts = {
        "backbone": record.plan.backbone.label,
        "prompts": record.plan.prompts,
        "images": record.images,
        "steps": settings.steps,
        "seed": settings.seed,
        "shared_noise": settings.shared_noise,
        "plan": record.plan_id,
    }
    rows: list[dict[str, object]] = []
    for name, measure in record.measures.items():
        numbers = zip(("value", "low", "high"), in_percent(name, measure), strict=True)
        row: dict[str, object] = {**facts, "measure": name, **dict(numbers)}
        if reference is not stored:
            row |= difference_columns(name, stored.pictures, reference.pictures)
        rows.append(row)
    return rows
