"""How often intervals of the rank correlation cover: ``python -m segscale.bench.generation.rank_coverage``.

Configurations have a true power and a true mIoU, which correlate by 0.8, and three seeds vary about them. Images and
prompts are without error here.
"""

from __future__ import annotations

import sys

import numpy as np

from ..evaluation.metrics import Floats
from .configuration_replicates import member_weights
from .correlations import spearman

SEEDS = 3
LADDERS = 600
REPLICATES = 400
CORRELATION = 0.8


def simulate(configurations: int, spread: float, ladders: int = LADDERS) -> tuple[float, float]:
    """Share of ladders whose interval covers the rho of the truth, and the mean error of rho.

    Args:
        configurations: Of each ladder.
        spread: Standard deviation of seeds; that of configurations is 1.
        ladders: How many.
    """
    rng = np.random.default_rng(1)
    covered, error = 0, 0.0
    for _ in range(ladders):
        power = rng.normal(size=configurations)
        miou = CORRELATION * power + np.sqrt(1 - CORRELATION**2) * rng.normal(size=configurations)
        seeds = [values[:, None] + spread * rng.normal(size=(configurations, SEEDS)) for values in (power, miou)]
        weights = [member_weights(rng, SEEDS, REPLICATES) for _ in range(configurations)]
        drawn = spearman(*(_means(values, weights) for values in seeds))
        truth = spearman(power[None], miou[None])[0]
        low, high = np.nanpercentile(drawn[1:], [2.5, 97.5])
        covered += low <= truth + 1e-9 and truth - 1e-9 <= high
        error += (drawn[0] - truth) / ladders
    return covered / ladders, error


def _means(values: Floats, weights: list[Floats]) -> Floats:
    """``(1 + replicates, configurations)``."""
    columns = zip(values, weights, strict=True)
    return np.stack([(own * of_seeds).sum(1) for own, of_seeds in columns], axis=1)


def main() -> None:
    """Write one line per number of configurations and spread of seeds."""
    for configurations in (5, 9, 13, 24):
        for spread in (0.1, 0.3, 0.6):
            share, error = simulate(configurations, spread)
            line = (
                f"{configurations} configurations, spread {spread}: {100 * share:.0f} % cover, rho off by {error:+.2f}"
            )
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
