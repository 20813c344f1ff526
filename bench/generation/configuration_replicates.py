"""Numbers of a bootstrap by configuration: means over its seeds, which every replicate draws anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ...backbones.pocket.ladder import configuration_of, family_of, rung_of
from ..evaluation.metrics import Floats
from .backbone_replicates import BackboneReplicates, random_stream

RANKED_DECIMALS = 9


@dataclass(frozen=True)
class ConfigurationReplicates:
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

    def measured_by(self, measure: str) -> ConfigurationReplicates:
        """The part of the configurations that have this measure of power."""
        return self.only(~np.isnan(self.power[measure][0]))

    def only(self, chosen: Sequence[bool] | NDArray[np.bool_]) -> ConfigurationReplicates:
        """The part of some configurations."""
        kept = np.asarray(chosen, bool)
        return ConfigurationReplicates(
            tuple(compress(self.configurations, kept)),
            tuple(compress(self.families, kept)),
            tuple(compress(self.varied, kept)),
            self.steps[kept],
            self.parameters[kept],
            {name: values[:, kept] for name, values in self.miou.items()},
            {name: values[:, kept] for name, values in self.power.items()},
        )


def by_configuration(backbones: Sequence[BackboneReplicates]) -> ConfigurationReplicates:
    """Means over the seeds of every configuration; each replicate draws these seeds anew."""
    groups: dict[str, list[int]] = {}
    for place, backbone in enumerate(backbones):
        groups.setdefault(configuration_of(backbone.name), []).append(place)
    rows = len(next(iter(backbones[0].miou.values())))
    rng = np.random.default_rng(random_stream("seeds"))
    members = [member_weights(rng, len(places), rows - 1) for places in groups.values()]

    def grouped(values: Sequence[Floats]) -> Floats:
        columns = zip(groups.values(), members, strict=True)
        means = np.stack([(np.stack(values, 1)[:, places] * weights).sum(1) for places, weights in columns], axis=1)
        # Means of equal values differ by rounding where the numbers of seeds do; ranks must not.
        return means.round(RANKED_DECIMALS)

    first = [backbones[places[0]] for places in groups.values()]
    rungs = [rung_of(backbone.name) for backbone in first]
    missing = np.full(rows, np.nan)
    measures = dict.fromkeys(measure for backbone in backbones for measure in backbone.power)
    return ConfigurationReplicates(
        configurations=tuple(groups),
        families=tuple(family_of(backbone.name) for backbone in first),
        varied=tuple(None if rung is None else rung.varied for rung in rungs),
        steps=np.array([np.nan if rung is None else rung.steps for rung in rungs], float),
        parameters=np.array([backbone.parameters for backbone in first], float),
        miou={name: grouped([backbone.miou[name] for backbone in backbones]) for name in backbones[0].miou},
        power={name: grouped([each.power.get(name, missing) for each in backbones]) for name in measures},
    )


def member_weights(rng: np.random.Generator, count: int, replicates: int) -> Floats:
    """Weights of a configuration's seeds, ``(1 + replicates, seeds)``; some are negative, each row sums to 1.

    The variance of means of n drawn seeds is too small by (n - 1) / n, so the distance from equal weights is multiplied
    by sqrt(n / (n - 1)) (Rao and Wu, Resampling inference with complex survey data, JASA 1988).
    """
    drawn = rng.multinomial(count, np.full(count, 1 / count), replicates) / count
    if count > 1:
        drawn = 1 / count + (drawn - 1 / count) * np.sqrt(count / (count - 1))
    return np.concatenate([np.full((1, count), 1 / count), drawn])
