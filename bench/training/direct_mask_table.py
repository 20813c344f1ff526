"""Numbers of trained generators of masks, with intervals over held-out scenes and, where there are several, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from ...backbones.wan import WanMasks
from ..evaluation.intervals import AT_BOUND, Estimate, Interval, NoInterval, estimate_jackknife
from ..evaluation.metrics import Floats
from .direct_mask_ablations import VARIANTS, Outcome, mask_areas
from .direct_mask_scenes import MaskScenes

REFERENCE = next(iter(VARIANTS))
"""The recipe that the others are variants of."""


@dataclass(frozen=True)
class Measure:
    """A number of one outcome."""

    counts: Callable[[Outcome], Sequence[object]]
    """Of every scene."""
    number: Callable[[Floats], float]
    """Of the counts of scenes, ``(scenes, ...)``."""
    unit: float = 100.0
    bounds: tuple[float, float] = (0.0, 1.0)
    """What the number cannot pass."""


def _ciou(areas: Floats) -> float:
    intersection, drawn, true = areas.sum(0)
    return intersection / (drawn + true - intersection)


def _f1(objects: Floats) -> float:
    hits, named, shown = objects.sum(0)
    return 2 * hits / (named + shown)


MASKS = {
    "cIoU, one step": Measure(lambda outcome: outcome.one_step, _ciou),
    "cIoU, ten steps": Measure(lambda outcome: outcome.ten_steps, _ciou),
}
MEASURES = MASKS | {
    "F1 of pictures": Measure(lambda outcome: outcome.objects, _f1),
    "loss of pictures": Measure(lambda outcome: outcome.losses, lambda losses: float(losses.mean()), 1.0, (0, np.inf)),
}


def ablation_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per variant and measure.

    ``mean``, ``low`` and ``high`` are of all seeds together, ``lowest`` and ``highest`` the ends of single seeds;
    ``difference`` and its ends are to ``REFERENCE``, paired by seed and scene.
    """
    order = [*VARIANTS]
    ordered = sorted(outcomes, key=lambda each: (order.index(each.variant), each.seed))
    by_variant = {name: [*group] for name, group in groupby(ordered, key=lambda each: each.variant)}
    reference = {each.seed: each for each in by_variant.get(REFERENCE, [])}
    rows: list[dict[str, object]] = []
    for name, group in by_variant.items():
        paired = [] if name == REFERENCE else [each for each in group if each.seed in reference]
        about = {"steps": group[0].steps, "seeds": len(group), "images": len(group[0].one_step)}
        for title, measure in MEASURES.items():
            row = _numbers(measure, group) | _difference(measure, paired, [reference[each.seed] for each in paired])
            rows.append({"variant": name, "measure": title, **row, **about})
    return pd.DataFrame(rows)


def measured_masks(backbone: WanMasks, held_out: MaskScenes) -> dict[str, Estimate]:
    """The cIoU of masks of every class of held-out scenes, drawn in one step and in ten."""
    areas = (np.array([rows], float) for rows in mask_areas(backbone, held_out))
    return {title: _over_seeds_and_scenes(each, _ciou, (0.0, 1.0)) for title, each in zip(MASKS, areas, strict=True)}


def _numbers(measure: Measure, outcomes: Sequence[Outcome]) -> dict[str, float]:
    counts = _counts(measure, outcomes)
    together = _over_seeds_and_scenes(counts, measure.number, measure.bounds)
    alone = [measure.number(of_seed) for of_seed in counts]
    numbers = (together.value, *together.bounds, min(alone), max(alone))
    return dict(zip(("mean", "low", "high", "lowest", "highest"), (measure.unit * n for n in numbers), strict=True))


def _difference(measure: Measure, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, float]:
    if not outcomes:
        return {}
    both = np.stack([_counts(measure, outcomes), _counts(measure, reference)], axis=2)

    def less(counts: Floats) -> float:
        return measure.number(counts[:, 0]) - measure.number(counts[:, 1])

    difference = _over_seeds_and_scenes(both, less, (-np.inf, np.inf))
    numbers = (difference.value, *difference.bounds)
    return dict(
        zip(("difference", "difference_low", "difference_high"), (measure.unit * n for n in numbers), strict=True)
    )


def _counts(measure: Measure, outcomes: Sequence[Outcome]) -> Floats:
    """``(seeds, scenes, ...)``."""
    return np.array([measure.counts(each) for each in outcomes], float)


def _over_seeds_and_scenes(counts: Floats, number: Callable[[Floats], float], bounds: tuple[float, float]) -> Estimate:
    """The number of all seeds together; squares of the jackknife's half widths over scenes and over seeds add up."""
    value, everywhere = number(counts.mean(0)), (-np.inf, np.inf)
    scenes = np.array([number(np.delete(counts, place, 1).mean(0)) for place in range(counts.shape[1])])
    estimates = [estimate_jackknife(value, scenes, everywhere)]
    if len(counts) > 1:
        seeds = np.array([number(np.delete(counts, place, 0).mean(0)) for place in range(len(counts))])
        estimates.append(estimate_jackknife(value, seeds, everywhere))
    if without := next((each for each in estimates if each.no_interval), None):
        return Estimate(value, without.interval)
    below, above = (np.hypot.reduce([value - each.bounds[end] for each in estimates]) for end in (0, 1))
    if below == above == 0 and value in bounds:
        return Estimate(value, NoInterval(AT_BOUND))
    return Estimate(value, Interval(max(value - below, bounds[0]), min(value + above, bounds[1])))
