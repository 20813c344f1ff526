"""Timestep laws against their closed forms."""

import math

import pytest
import torch

from segscale.bench.training.timestep_laws import HeavyTail, LogitNormal, TimestepLaw, Uniform

LAWS = (HeavyTail(0.05), HeavyTail(0.1), HeavyTail(0.5), LogitNormal(), LogitNormal(0.4, 0.7), Uniform())
DRAWS = 200_000


def share_above(law: TimestepLaw, sigma: float) -> float:
    """The closed form of how many levels are above ``sigma``."""
    if isinstance(law, HeavyTail):
        return (1 - sigma) ** 2 / ((1 - sigma) ** 2 + law.a**2)
    if isinstance(law, Uniform):
        return 1 - sigma
    assert isinstance(law, LogitNormal)
    standard = math.inf if sigma == 0 else -(math.log(sigma / (1 - sigma)) - law.mean) / law.deviation
    return math.erfc(-standard / math.sqrt(2)) / 2


def drawn(law: TimestepLaw) -> torch.Tensor:
    return law.draw(DRAWS, torch.Generator().manual_seed(7))


def integral(law: TimestepLaw, low: float, high: float) -> float:
    """Of the density, by the midpoint rule."""
    width = (high - low) / DRAWS
    return law.density(low + width * (torch.arange(DRAWS, dtype=torch.float64) + 0.5)).sum().item() * width


@pytest.mark.parametrize(("a", "share"), [(0.05, 0.900), (0.1, 0.692), (0.5, 0.083)])
def test_published_shares_of_the_heavy_tail(a: float, share: float) -> None:
    law = HeavyTail(a)
    assert (drawn(law) > 0.85).double().mean().item() == pytest.approx(share, abs=2e-3)
    assert integral(law, 0.85, 1) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_density_is_that_of_the_shares(law: TimestepLaw) -> None:
    for low, high in ((0.0, 0.2), (0.2, 0.85), (0.85, 0.97), (0.97, 1.0)):
        expected = share_above(law, low) - (share_above(law, high) if high < 1 else 0)
        assert integral(law, low, high) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_draws_follow_the_shares(law: TimestepLaw) -> None:
    levels = drawn(law)
    assert levels.min() >= 0
    assert levels.max() <= 1
    for sigma in (0.0, 0.1, 0.3, 0.5, 0.85, 0.95, 0.99):
        assert (levels > sigma).double().mean().item() == pytest.approx(share_above(law, sigma), abs=0.005)


@pytest.mark.parametrize("a", [0.05, 0.5])
def test_distances_beyond_pure_noise_are_levels_of_0(a: float) -> None:
    at_zero = (drawn(HeavyTail(a)) == 0).double().mean().item()
    assert at_zero == pytest.approx(a**2 / (1 + a**2), abs=0.003)


def test_equal_seeds_draw_equally() -> None:
    law = HeavyTail(0.05)
    assert torch.equal(drawn(law), drawn(law))


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not above 0"):
        HeavyTail(0)
