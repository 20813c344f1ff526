"""How often intervals of the rank correlation cover: ``python -m segscale.bench.generation.rank_coverage``.

Configurations have a true power and a true mIoU, which correlate by 0.8, and three seeds vary about them. Images and
prompts are without error here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ..evaluation.metrics import Floats
from .configuration_replicates import member_weights
from .correlations import over_configurations, spearman

SEEDS = 3
LADDERS = 600
REPLICATES = 400
CORRELATION = 0.8
ALL_RUNGS = 6 / np.pi * np.arcsin(CORRELATION / 2)
"""Spearman's rho of normal variables that correlate so."""


@dataclass(frozen=True)
class Coverage:
    """Means over many ladders."""

    own: float
    """Share whose interval covers the rho of the ladder's own configurations, without the error of seeds."""
    own_of_all: float
    """Share whose same interval covers the rho of all configurations that there could be."""
    drawn_of_all: float
    """Share whose interval with drawn configurations covers that."""
    error: float
    """Of rho, from that of the own configurations."""


def simulate(configurations: int, spread: float, ladders: int = LADDERS) -> Coverage:
    """Make ladders and their intervals.

    Args:
        configurations: Of each ladder.
        spread: Standard deviation of seeds; that of configurations is 1.
        ladders: How many.
    """
    rng = np.random.default_rng(1)
    rows: list[tuple[float, ...]] = []
    for _ in range(ladders):
        power = rng.normal(size=configurations)
        miou = CORRELATION * power + np.sqrt(1 - CORRELATION**2) * rng.normal(size=configurations)
        seeds = [values[:, None] + spread * rng.normal(size=(configurations, SEEDS)) for values in (power, miou)]
        weights = [member_weights(rng, SEEDS, REPLICATES) for _ in range(configurations)]
        values, drawn = over_configurations(spearman, *(_means(each, weights) for each in seeds))
        truth = spearman(power[None], miou[None])[0]
        rows.append(
            (_covers(values[1:], truth), _covers(values[1:], ALL_RUNGS), _covers(drawn, ALL_RUNGS), values[0] - truth)
        )
    return Coverage(*np.mean(rows, 0).tolist())


def _covers(replicates: Floats, truth: float) -> bool:
    low, high = np.nanpercentile(replicates, [2.5, 97.5])
    return bool(low <= truth + 1e-9 and truth - 1e-9 <= high)


def _means(values: Floats, weights: list[Floats]) -> Floats:
    """``(1 + replicates, configurations)``."""
    columns = zip(values, weights, strict=True)
    return np.stack([(own * of_seeds).sum(1) for own, of_seeds in columns], axis=1)


def main() -> None:
    """Write one line per number of configurations and spread of seeds."""
    for configurations in (5, 9, 13, 19, 24):
        for spread in (0.1, 0.3, 0.6):
            found = simulate(configurations, spread)
            shares = [f"{100 * share:.0f}" for share in (found.own, found.own_of_all, found.drawn_of_all)]
            line = f"{configurations} configurations, spread {spread}: own rungs {shares[0]} %, all rungs {shares[1]} %"
            sys.stdout.write(f"{line}, with drawn ones {shares[2]} %; rho off by {found.error:+.2f}\n")


if __name__ == "__main__":
    main()
