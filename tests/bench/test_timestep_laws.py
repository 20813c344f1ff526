"""Timestep laws against their closed forms."""

import pytest
import torch

from segscale.bench.training.timestep_laws import HeavyTail, LogitNormal, TimestepLaw, Uniform

LAWS = (HeavyTail(0.05), HeavyTail(0.1), HeavyTail(0.5), LogitNormal(), LogitNormal(0.4, 0.7), Uniform())
DRAWS = 200_000


def drawn(law: TimestepLaw) -> torch.Tensor:
    return law.draw(DRAWS, torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("a", "share"), [(0.05, 0.900), (0.1, 0.692), (0.5, 0.083)])
def test_published_shares_of_the_heavy_tail(a: float, share: float) -> None:
    assert HeavyTail(a).share_above(0.85) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_draws_follow_the_shares(law: TimestepLaw) -> None:
    levels = drawn(law)
    assert levels.min() >= 0
    assert levels.max() <= 1
    for sigma in (0.0, 0.1, 0.3, 0.5, 0.85, 0.95, 0.99):
        assert (levels > sigma).double().mean().item() == pytest.approx(law.share_above(sigma), abs=0.005)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_density_is_the_derivative_of_the_shares(law: TimestepLaw) -> None:
    width = 1e-5
    for sigma in (0.05, 0.2, 0.5, 0.8, 0.95):
        slope = (law.share_above(sigma - width) - law.share_above(sigma + width)) / (2 * width)
        assert law.density(torch.tensor(sigma, dtype=torch.float64)).item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("a", [0.05, 0.5])
def test_mass_of_the_heavy_tail_is_whole(a: float) -> None:
    sigma = torch.linspace(1e-6, 1, 200_001, dtype=torch.float64)
    inside = torch.trapezoid(HeavyTail(a).density(sigma), sigma).item()
    at_zero = (drawn(HeavyTail(a)) == 0).double().mean().item()
    assert at_zero == pytest.approx(a**2 / (1 + a**2), abs=0.003)
    assert inside + a**2 / (1 + a**2) == pytest.approx(1, abs=1e-4)


def test_equal_seeds_draw_equally() -> None:
    law = HeavyTail(0.05)
    assert torch.equal(drawn(law), drawn(law))


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not above 0"):
        HeavyTail(0)
