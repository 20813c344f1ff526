"""Does mIoU grow with power? Rank correlations and the paired questions, each over all replicates of a resampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ...backbones.pocket.ladder import without_seed
from ..evaluation.metrics import Floats
from .backbone_replicates import random_stream
from .configuration_replicates import ConfigurationReplicates

LEAST_CONFIGURATIONS = 4
"""Fewer configurations than these get no correlation; a partial one needs one more."""
ALL = "all"
LED = "f1"
"""The measure of power that mIoU is ahead of, or behind, along training."""
COLUMNS = (
    *("statistic", "group", "method", "against", "configurations"),
    *("value", "low", "high", "rungs_low", "rungs_high"),
)


@dataclass(frozen=True)
class Statistic:
    """One number over the configurations of a group."""

    name: str
    group: str
    """A family, the rungs of a family at equal training steps, or all; or the rung that differs from the common one."""
    method: str
    against: str
    """The measure of power, or the common rung."""
    values: Floats
    """``(1 + replicates,)``: of the sample itself, then of every replicate."""
    configurations: int
    of_drawn: Floats | None = None
    """``(replicates,)``: of configurations that are drawn as well; None where it is of these very ones."""

    @property
    def row(self) -> dict[str, object]:
        """Value and 95 % intervals (percentiles of the replicates), as a row of a table; NaN where it is not defined.

        The first interval is of these very configurations, the second of others like them.
        """
        missing = np.full(1, np.nan)
        parts = (self.values[1:], missing if self.of_drawn is None else self.of_drawn)
        ends = [end for part in parts for end in _percentiles(missing if np.isnan(self.values[0]) else part)]
        numbers = (self.name, self.group, self.method, self.against, self.configurations, self.values[0], *ends)
        return dict(zip(COLUMNS, numbers, strict=True))


def _percentiles(values: Floats) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def over_configurations(function: Callable[..., Floats], *columns: Floats) -> tuple[Floats, Floats]:
    """A statistic of every row, and of the replicates with configurations drawn with replacement.

    Args:
        function: Of the columns, ``(rows,)``.
        columns: Each ``(1 + replicates, configurations)``.
    """
    replicates, count = len(columns[0]) - 1, columns[0].shape[1]
    places = np.random.default_rng(random_stream("rungs")).integers(count, size=(replicates, count))
    drawn = [np.take_along_axis(column[1:], places, 1) for column in columns]
    return function(*columns), function(*drawn)


def statistics(replicates: ConfigurationReplicates) -> pd.DataFrame:
    """All statistics of all groups that are large enough, a row each."""
    of_groups = [statistic for group in _groups(replicates) for statistic in _of_group(*group)]
    others = (*_leads(replicates), *_from_common_rungs(replicates))
    return pd.DataFrame([statistic.row for statistic in (*of_groups, *others)], columns=[*COLUMNS])


def _groups(replicates: ConfigurationReplicates) -> Iterator[tuple[str, ConfigurationReplicates]]:
    """All, each family, and of each family the rungs of equal training steps, which steps cannot explain."""
    families = {family: _of_family(replicates, family) for family in sorted(set(replicates.families))}
    named = [(ALL, replicates), *(families.items() if len(families) > 1 else ())]
    for family, part in families.items():
        for steps in np.unique(part.steps[~np.isnan(part.steps)]):
            named.append((f"{family} at {steps:.0f} steps", part.only(part.steps == steps)))
    yield from ((name, part) for name, part in named if len(part.configurations) >= LEAST_CONFIGURATIONS)


def _of_family(replicates: ConfigurationReplicates, family: str) -> ConfigurationReplicates:
    return replicates.only([each == family for each in replicates.families])


def _of_group(name: str, group: ConfigurationReplicates) -> Iterator[Statistic]:
    parameters = np.tile(group.parameters, (len(next(iter(group.miou.values()))), 1))
    for measure, part, count in _by_measure(replace(group, power={**group.power, "parameters": parameters})):
        for method, miou in part.miou.items():
            values, of_drawn = over_configurations(spearman, miou, part.power[measure])
            yield Statistic("rho", name, method, measure, values, count, of_drawn)
    yield from _given_steps(name, group.only(~np.isnan(group.steps)))
    base, *others = group.miou
    for measure, part, count in _by_measure(group):
        for method in others:
            gain = part.miou[method] - part.miou[base]
            values, of_drawn = over_configurations(slope, gain, part.power[measure])
            yield Statistic("slope of gain", name, f"{method} - {base}", measure, values, count, of_drawn)


def _given_steps(name: str, known: ConfigurationReplicates) -> Iterator[Statistic]:
    for measure, part, count in _by_measure(known, LEAST_CONFIGURATIONS + 1):
        if np.ptp(part.steps) == 0:
            continue
        power = part.power[measure]
        steps = np.tile(part.steps, (len(power), 1))
        for method, miou in part.miou.items():
            values, of_drawn = over_configurations(partial_spearman, miou, power, steps)
            yield Statistic("rho given steps", name, method, measure, values, count, of_drawn)


def _by_measure(
    group: ConfigurationReplicates, least: int = LEAST_CONFIGURATIONS
) -> Iterator[tuple[str, ConfigurationReplicates, int]]:
    """Every measure with the configurations that have it, and how many they are; not of fewer than ``least``.

    One that is the same for all relates to nothing.
    """
    for measure in group.power:
        part = group.measured_by(measure)
        if (count := len(part.configurations)) >= least and np.ptp(part.power[measure][0]) > 0:
            yield measure, part, count


def spearman(first: Floats, second: Floats) -> Floats:
    """Spearman's rho of every row, ``(rows, items)``; NaN where all items of a row are equal."""
    ranks = [rankdata(values, axis=1) for values in (first, second)]
    first, second = (values - values.mean(1, keepdims=True) for values in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))


def partial_spearman(first: Floats, second: Floats, given: Floats) -> Floats:
    """Spearman's rho of every row that is left when a third quantity is held fixed, from the three pairwise ones.

    NaN where the ranks of the third are those of another one: then nothing is left to correlate.
    """
    both, one, other = spearman(first, second), spearman(first, given), spearman(second, given)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (both - one * other) / np.sqrt((1 - one**2) * (1 - other**2))


def slope(values: Floats, against: Floats) -> Floats:
    """Slope of the least-squares line of every row, in points per unit; NaN where all items of a row are equal."""
    centred = against - against.mean(1, keepdims=True)
    centred[np.ptp(against, axis=1) == 0] = np.nan
    return (centred * values).sum(1) / (centred**2).sum(1)


def _leads(replicates: ConfigurationReplicates) -> Iterator[Statistic]:
    for family in sorted(set(replicates.families)):
        for method in replicates.miou:
            if LED in replicates.power and (found := lead(replicates, family, method)) is not None:
                yield found


def lead(replicates: ConfigurationReplicates, family: str, method: str) -> Statistic | None:
    """How far segmentation is ahead of the F1 along training, where a family has at least three numbers of steps.

    Both are brought to 0 at the fewest steps and 1 at the most; the lead is the mean difference in between. Positive:
    grounding comes before generation.
    """
    measured = replicates.measured_by(LED)
    chosen = zip(measured.families, measured.varied, strict=True)
    part = measured.only([group == family and varied == "steps" for group, varied in chosen])
    order = np.argsort(part.steps)
    if len(order) < 3:
        return None
    progress = []
    for values in (part.miou[method][:, order], part.power[LED][:, order]):
        progress.append((values - values[:, :1]) / (values[:, -1:] - values[:, :1]))
    ahead = (progress[0] - progress[1])[:, 1:-1].mean(1)
    return Statistic("lead", family, method, LED, ahead, len(order))


def _from_common_rungs(replicates: ConfigurationReplicates) -> Iterator[Statistic]:
    """What F1 and mIoU of a rung differ by from the common rung of its family and steps."""
    rungs = [*zip(replicates.families, replicates.varied, replicates.steps, strict=True)]
    common = {(family, steps): place for place, (family, varied, steps) in enumerate(rungs) if varied == "steps"}
    numbers = replicates.miou | {name: values for name, values in replicates.power.items() if name == LED}
    for place, (family, varied, steps) in enumerate(rungs):
        if varied in (None, "steps") or (base := common.get((family, steps))) is None:
            continue
        pair = [without_seed(replicates.configurations[each]) for each in (place, base)]
        for name, values in numbers.items():
            yield Statistic("difference", pair[0], name, pair[1], values[:, place] - values[:, base], len(pair))
