"""Samplers of EDM, deterministic or with churn (Karras et al. 2022, algorithms 1 and 2)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mrigen.diffusion.samplers.base import SAMPLERS, Sampler, SamplerParams, Teacher

NonNegative = Annotated[float, Field(ge=0)]


class ChurnParams(SamplerParams):
    """Stochasticity of EDM's samplers.

    Attributes:
        churn: S_churn; 0 for the deterministic samplers.
        churn_min: S_min, the lowest level at which noise is added.
        churn_max: S_max, the highest one; None for no bound.
        churn_noise: S_noise, the factor on the noise.
    """

    churn: NonNegative = 0.0
    churn_min: NonNegative = 0.0
    churn_max: NonNegative | None = None
    churn_noise: Annotated[float, Field(gt=0)] = 1.0


class ChurnSampler(Sampler):
    """Raise the noise to σ̂ = (1 + γ) σ with fresh noise, then go down from there.

    γ = min(S_churn / steps, √2 − 1) between S_min and S_max, and 0 elsewhere.
    """

    Params: ClassVar[type[SamplerParams]] = ChurnParams
    params: ChurnParams

    @abstractmethod
    def descend(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """From x at noise level σ to the next level, without new noise."""

    def step(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float, number: int) -> Tensor:
        """Churn, then descend."""
        p = self.params
        bounded = p.churn_max is None or sigma <= p.churn_max
        if p.churn and p.churn_min <= sigma and bounded:
            raised = teacher.level(sigma * (1 + min(p.churn / p.steps, math.sqrt(2) - 1)))
            x = x + math.sqrt(raised**2 - sigma**2) * p.churn_noise * teacher.noise(number)
            sigma = raised
        return self.descend(teacher, x, sigma, sigma_next)


def slope(teacher: Teacher, x: Tensor, sigma: float) -> Tensor:
    """dx/dσ = (x − D(x, σ)) / σ (EDM, eq. 3)."""
    return (x - teacher.predict(x, sigma)) / sigma


def corrected(teacher: Teacher, x: Tensor, first: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Heun's step with the slope ``first`` at x; the Euler step to level 0."""
    ahead = x + (sigma_next - sigma) * first
    if sigma_next == 0:
        return ahead
    return x + (sigma_next - sigma) * (first + slope(teacher, ahead, sigma_next)) / 2


@SAMPLERS.register("euler")
class Euler(ChurnSampler):
    """First order: x + (σ' − σ) dx/dσ."""

    def descend(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """One Euler step."""
        return x + (sigma_next - sigma) * slope(teacher, x, sigma)

    def cost(self, *, last: bool) -> int:
        """One."""
        del last
        return 1


@SAMPLERS.register("heun")
class Heun(ChurnSampler):
    """Second order: the slope is averaged with the one at the Euler step's end, except at σ' = 0."""

    def descend(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """One Heun step."""
        return corrected(teacher, x, slope(teacher, x, sigma), sigma, sigma_next)

    def cost(self, *, last: bool) -> int:
        """Two, one in the last step."""
        return 1 if last else 2
