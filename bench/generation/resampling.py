"""What would change were seeds, prompts and images others: mIoU and power of all subjects, bootstrapped together.

Every replicate draws images and prompts once for all subjects, so that what they share stays shared, and of every
configuration its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import Floats, mean_iou
from ..report.evaluated import EvaluatedRun
from .frechet import Gaussian, frechet_distance
from .judge_files import load_reference
from .power_record import StoredPower
from .scaling import Subject

REPLICATES = 400


@dataclass(frozen=True)
class Replicates:
    """Numbers of every configuration: first of the sample itself, then of each replicate."""

    configurations: tuple[str, ...]
    families: tuple[str, ...]
    """Of every configuration."""
    varied: tuple[str | None, ...]
    """What tells each from the common rung of its family; None for one that is on no ladder."""
    steps: Floats
    """``(configurations,)``: training steps, NaN where they are unknown."""
    parameters: Floats
    """``(configurations,)``."""
    miou: dict[str, Floats]
    """By method, ``(1 + replicates, configurations)``, in percent."""
    power: dict[str, Floats]
    """By measure, ``(1 + replicates, configurations)``; shares in percent, NaN where one lacks the measure."""

    def measured_by(self, measure: str) -> Replicates:
        """The part of the configurations that have this measure of power."""
        return self.only(~np.isnan(self.power[measure][0]))

    def only(self, chosen: Sequence[bool] | NDArray[np.bool_]) -> Replicates:
        """The part of some configurations."""
        kept = np.asarray(chosen, bool)
        return Replicates(
            tuple(compress(self.configurations, kept)),
            tuple(compress(self.families, kept)),
            tuple(compress(self.varied, kept)),
            self.steps[kept],
            self.parameters[kept],
            {name: values[:, kept] for name, values in self.miou.items()},
            {name: values[:, kept] for name, values in self.power.items()},
        )


RANKED_DECIMALS = 9


def resample(subjects: Sequence[Subject], replicates: int = REPLICATES) -> Replicates:
    """Bootstrap over seeds, prompts and images.

    Args:
        subjects: With runs on the same images and, where power was measured, pictures of the same prompts.
        replicates: How many.
    """
    images, prompts, seeds = np.random.SeedSequence(0).spawn(3)
    miou = {
        name: _each_miou([subject.runs[name] for subject in subjects], replicates, images) for name in subjects[0].runs
    }
    power = _each_power(subjects, replicates, prompts)
    groups = _groups(subjects)
    rng = np.random.default_rng(seeds)
    members = [_member_weights(rng, len(places), replicates) for places in groups.values()]

    def grouped(values: Floats) -> Floats:
        columns = zip(groups.values(), members, strict=True)
        means = np.stack([(values[:, places] * weights).sum(1) for places, weights in columns], axis=1)
        # Means of equal values differ by rounding where the numbers of seeds do; ranks must not.
        return means.round(RANKED_DECIMALS)

    first = [subjects[places[0]] for places in groups.values()]
    return Replicates(
        configurations=tuple(groups),
        families=tuple(subject.family for subject in first),
        varied=tuple(None if subject.rung is None else subject.rung.varied for subject in first),
        steps=np.array([np.nan if subject.rung is None else subject.rung.steps for subject in first], float),
        parameters=np.array([subject.parameters for subject in first], float),
        miou={name: grouped(values) for name, values in miou.items()},
        power={name: grouped(values) for name, values in power.items()},
    )


def _groups(subjects: Sequence[Subject]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        groups.setdefault(subject.configuration, []).append(place)
    return groups


def _member_weights(rng: np.random.Generator, count: int, replicates: int) -> Floats:
    """Shares of a configuration's seeds, ``(1 + replicates, seeds)``."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), replicates) / count
    return np.concatenate([np.full((1, count), 1 / count), drawn])


def _weights(count: int, replicates: int, seed: np.random.SeedSequence) -> Floats:
    """How often each image is drawn, ``(1 + replicates, images)``; once each in the first row."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), replicates)
    return np.concatenate([np.ones((1, count)), drawn]).astype(float)


def _each_miou(runs: Sequence[EvaluatedRun], replicates: int, seed: np.random.SeedSequence) -> Floats:
    """MIoU in percent, ``(1 + replicates, runs)``, on the images that all runs have."""
    common = sorted(set.intersection(*({*run.counts.images} for run in runs)))
    weights = _weights(len(common), replicates, seed)
    columns = []
    for run in runs:
        counts = run.counts.only(common).at_threshold(run.threshold)
        intersection, predicted, label = (weights @ part for part in counts.floats())
        columns.append(100 * mean_iou(intersection, predicted, label, run.run.table_rules.averaging))
    return np.stack(columns, axis=1)


def _each_power(subjects: Sequence[Subject], replicates: int, seed: np.random.SeedSequence) -> dict[str, Floats]:
    """Power by measure, ``(1 + replicates, subjects)``, NaN of a subject without it; published numbers do not vary."""
    powers = [subject.power for subject in subjects if subject.power is not None]
    if len(powers) < len(subjects):
        names = sorted({name for subject in subjects for name in subject.published})
        constant = {name: [subject.published.get(name, np.nan) for subject in subjects] for name in names}
        return {name: np.tile(np.array(values, float), (1 + replicates, 1)) for name, values in constant.items()}
    common = sorted(set.intersection(*({*power.pictures["id"]} for power in powers)))
    weights = _weights(len(common), replicates, seed)
    reference = load_reference()
    each = [_power_of(power, common, weights, reference) for power in powers]
    missing = np.full(1 + replicates, np.nan)
    names = dict.fromkeys(name for values in each for name in values)
    return {name: np.stack([values.get(name, missing) for values in each], axis=1) for name in names}


def _power_of(power: StoredPower, ids: Sequence[str], weights: Floats, reference: Gaussian) -> dict[str, Floats]:
    rows = power.pictures.set_index("id").loc[[*ids]]
    if "hits" not in rows:
        # By networks. The features of the FID are not stored, so it does not vary.
        power_by = {name: np.full(len(weights), each.value) for name, each in power.record.measures.items()}
        if "clip_score" in rows:
            power_by["clip_score"] = weights @ rows["clip_score"].to_numpy(float) / weights.sum(1)
        return power_by
    hits, named, shown = (weights @ rows[name].to_numpy(float) for name in ("hits", "named", "shown"))
    features = rows[[name for name in rows.columns if name.startswith("feature_")]].to_numpy(float)
    return {
        "f1": 100 * 2 * hits / (named + shown),
        "recall": 100 * hits / named,
        "frechet": np.array([_distance(features, row, reference) for row in weights]),
    }


def _distance(features: Floats, weights: Floats, reference: Gaussian) -> float:
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return frechet_distance(Gaussian(mean, (centred * weights[:, None]).T @ centred / (total - 1)), reference)
