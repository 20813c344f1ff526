"""Laws by which training draws noise levels, each by inverse transform of a uniform number.

A noise level is sigma in [0, 1]: a flow-matching latent is ``(1 - sigma) * clean + sigma * noise``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class TimestepLaw(ABC):
    """A probability law of sigma."""

    @abstractmethod
    def transform(self, uniform: Tensor) -> Tensor:
        """Turn numbers of (0, 1) into sigmas; uniform ones get this law."""

    @abstractmethod
    def density(self, sigma: Tensor) -> Tensor:
        """The density at sigmas of the open interval (0, 1), float64."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw sigmas, float32 ``(count,)``."""
        # Both ends would become infinite.
        uniform = torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        return self.transform(uniform).float()


@dataclass(frozen=True)
class HeavyTail(TimestepLaw):
    """GenMask's law for masks (arXiv 2603.23906): nearly all levels are close to pure noise, with a long tail.

    The distance from pure noise is ``s = a sqrt(u / (1 - u))``, whose density is ``2 a^2 s / (s^2 + a^2)^2``. A
    distance beyond 1 counts as 1, so that ``a^2 / (1 + a^2)`` of all levels are 0.
    """

    a: float

    def __post_init__(self) -> None:
        """Hold ``a`` above 0."""
        if self.a <= 0:
            raise ValueError(f"a is {self.a}, not above 0")

    def transform(self, uniform: Tensor) -> Tensor:
        return (1 - self.a * (uniform / (1 - uniform)).sqrt()).clamp(min=0)

    def density(self, sigma: Tensor) -> Tensor:
        """As of ``TimestepLaw``; what is at 0 is not in it."""
        distance = 1 - sigma.double()
        return 2 * self.a**2 * distance / (distance.square() + self.a**2).square()


@dataclass(frozen=True)
class LogitNormal(TimestepLaw):
    """The usual law for pictures (arXiv 2403.03206): the logit of sigma is normal."""

    mean: float = 0.0
    deviation: float = 1.0

    def transform(self, uniform: Tensor) -> Tensor:
        return (self.mean + self.deviation * torch.special.ndtri(uniform)).sigmoid()

    def density(self, sigma: Tensor) -> Tensor:
        sigma = sigma.double()
        standard = (sigma.logit() - self.mean) / self.deviation
        normal = (-standard.square() / 2).exp() / (self.deviation * math.sqrt(2 * math.pi))
        return normal / (sigma * (1 - sigma))


@dataclass(frozen=True)
class Uniform(TimestepLaw):
    """All levels alike."""

    def transform(self, uniform: Tensor) -> Tensor:
        return uniform

    def density(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma, dtype=torch.float64)
