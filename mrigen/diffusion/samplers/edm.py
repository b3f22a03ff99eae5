"""Samplers of EDM, deterministic or with churn (Karras et al. 2022, algorithms 1 and 2)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mrigen.diffusion.samplers.base import SAMPLERS, Sampler, SamplerParams, Teacher
from mrigen.errors import UsageError

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


class TweedieSamplerParams(ChurnParams):
    """Where to stop.

    Attributes:
        truncate: stop (Teacher-Truncated), at ``stop`` or else at the lowest level at which the teacher was
            trained, the data's (smallest) noise; or go down to 0 (Teacher-Full).
    """

    truncate: bool = True

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and "sigma" in values:
            raise ValueError("sigma is called stop now, as with every sampler")
        return values

    @model_validator(mode="after")
    def _fitting(self) -> TweedieSamplerParams:
        if not self.truncate and self.stop is not None:
            raise ValueError("stop without truncate; leave one of them out")
        return self


@SAMPLERS.register("tweedie")
class TweedieSampler(Heun):
    """Heun's steps; truncated, the denoiser's estimate is returned when the next level would be below σ.

    RSD algorithm 3, with EDM's sampler as in DCD.
    """

    Params: ClassVar[type[SamplerParams]] = TweedieSamplerParams
    params: TweedieSamplerParams

    def stop(self, floor: float) -> float | None:
        """The data's noise level, if nothing else is wanted.

        Raises:
            UsageError: the teacher was trained down to level 0.
        """
        if not self.params.truncate or self.params.stop is not None:
            return self.params.stop
        if floor <= 0:
            raise UsageError(
                "sampler tweedie: this teacher was trained down to level 0, there is no noise level of its "
                "data to stop at; set sampler.stop, or use heun"
            )
        return floor


class GuidedParams(SamplerParams):
    """Strength and cost of the guidance.

    Attributes:
        masks: other further masks that are drawn at every step; each costs one network evaluation.
        weight: w of the gradient.
    """

    masks: Annotated[int, Field(ge=1)] = 4
    weight: Annotated[float, Field(ge=0)] = 5e-4


@SAMPLERS.register("guided")
class Guided(Sampler):
    """Heun's step with x̂(Ã) = E[x₀ | Ã x, Ã], and − w/2 ∇_x mean_k ‖x̂(Ã) − x̂(Ã_k)‖² at its start.

    Ambient Diffusion (Daras et al. 2023), eq. E.1 with a step of second order: the estimates through other
    masks shall agree with the one through the fixed mask. The norm is the sum over pixels.
    """

    Params: ClassVar[type[SamplerParams]] = GuidedParams
    params: GuidedParams

    def step(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float, number: int) -> Tensor:
        """A step of the flow, and one against the gradient of the disagreement."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            estimate = teacher.predict(x, sigma)
            others = teacher.others(number, self.params.masks)
            apart = torch.stack([squared_norm(estimate - predict(x, sigma)) for predict in others]).mean(0)
            (gradient,) = torch.autograd.grad(apart.sum(), x)
        x = x.detach()
        moved = corrected(teacher, x, (x - estimate.detach()) / sigma, sigma, sigma_next)
        return moved - self.params.weight / 2 * gradient

    def cost(self, *, last: bool) -> int:
        """Two, one in the last step, and one per mask."""
        return (1 if last else 2) + self.params.masks


def squared_norm(difference: Tensor) -> Tensor:
    """‖·‖² of each sample, (B,)."""
    real = torch.view_as_real(difference) if difference.is_complex() else difference
    return real.square().flatten(1).sum(1)
