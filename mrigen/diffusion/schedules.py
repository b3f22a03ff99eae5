"""Distributions of noise levels and sampling schedules."""

from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor

from mrigen.registry import Params
from mrigen.tensors import to_device

Positive = Annotated[float, Field(gt=0)]


class LogNormal(Params):
    """ln σ ~ N(P_mean, P_std²), the training distribution of EDM (Karras et al. 2022, table 1)."""

    p_mean: float = -1.2
    p_std: Positive = 1.2

    def draw(self, batch: int, rng: torch.Generator) -> Tensor:
        """Noise levels (batch,)."""
        return (torch.randn(batch, generator=rng) * self.p_std + self.p_mean).exp()

    def draw_below(self, top: Tensor, rng: torch.Generator) -> Tensor:
        """One level below each of ``top`` (B,), from the same law: (B,)."""
        return self._tail(top, rng, self.p_std).minimum(top)

    def draw_above(self, least: Tensor, rng: torch.Generator) -> Tensor:
        """One level above each of ``least`` (B,), from the same law: (B,); ``least`` where that has none.

        Examples:
            >>> import torch
            >>> law = LogNormal(p_mean=-1.2, p_std=1.2)
            >>> bool((law.draw_above(torch.full((100,), 2.0), torch.Generator()) >= 2).all())
            True
        """
        level = self._tail(least, rng, -self.p_std)
        return torch.where(level.isfinite(), level.maximum(least), least)

    def _tail(self, end: Tensor, rng: torch.Generator, spread: float) -> Tensor:
        """Levels below each of ``end`` (B,) for a spread of ``p_std``, above it for one of ``-p_std``."""
        bound = torch.special.ndtr((end.log() - self.p_mean) / spread)
        share = to_device(torch.rand(len(end), generator=rng).clamp(min=1e-6), end.device)
        return cast("Tensor", (torch.special.ndtri(share * bound) * spread + self.p_mean).exp())


class Karras(Params):
    """σ(t) = (σ_max^{1/ρ} + t (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, t in [0, 1] (EDM, eq. 5)."""

    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0

    def level(self, t: Tensor) -> Tensor:
        """Noise level at schedule position t: σ_max at 0, σ_min at 1."""
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        level: Tensor = (high + t * (low - high)) ** self.rho
        return level

    def between(self, high: Tensor, low: Tensor, count: int) -> Tensor:
        """``count`` + 1 levels from ``high`` (B,) down to ``low`` (B,), spaced alike: (count + 1, B)."""
        t = torch.linspace(0, 1, count + 1, device=high.device)[:, None]
        first, last = high ** (1 / self.rho), low ** (1 / self.rho)
        levels: Tensor = (first + t * (last - first)) ** self.rho
        return levels

    def steps(self, count: int) -> list[float]:
        """``count`` decreasing levels from σ_max to σ_min, then 0: the grid of a sampler."""
        grid = self.level(torch.linspace(0, 1, count, dtype=torch.float64))
        return [*grid.tolist(), 0.0]


class KarrasUniform(Karras):
    """σ(1 − t) with continuous t ~ U(0, t_max / 1000), the distillation distribution of SiD.

    Attributes:
        t_max: of the highest level, σ(1 − t_max / 1000).
        floor: levels are clipped from below at it. A Tweedie teacher is not trained below its data's σ,
            yet the authors of RSD found a floor of 0.2 worse than none.
    """

    t_max: Annotated[float, Field(gt=0, le=1000)] = 800.0
    floor: Annotated[float, Field(ge=0)] = 0.0

    def draw(self, batch: int, rng: torch.Generator) -> Tensor:
        """Noise levels (batch,)."""
        level = self.level(1 - torch.rand(batch, generator=rng) * self.t_max / 1000)
        return level.clamp(min=self.floor)


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """λ(σ) = (σ² + σ_data²) / (σ σ_data)² (EDM, table 1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def per_sample(sigma: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1), to multiply images."""
    return sigma.reshape(-1, 1, 1, 1)
