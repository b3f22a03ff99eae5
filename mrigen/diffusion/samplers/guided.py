"""Reconstruction guidance for ambient teachers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.diffusion.samplers.base import SAMPLERS, Sampler, SamplerParams, Teacher
from mrigen.diffusion.samplers.edm import corrected


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
            apart = torch.stack([total(estimate - predict(x, sigma)) for predict in others]).mean(0)
            (gradient,) = torch.autograd.grad(apart.sum(), x)
        x = x.detach()
        moved = corrected(teacher, x, (x - estimate.detach()) / sigma, sigma, sigma_next)
        return moved - self.params.weight / 2 * gradient

    def cost(self, *, last: bool) -> int:
        """Two, one in the last step, and one per mask."""
        return (1 if last else 2) + self.params.masks


def total(difference: Tensor) -> Tensor:
    """‖·‖² of each sample, (B,)."""
    real = torch.view_as_real(difference) if difference.is_complex() else difference
    return real.square().flatten(1).sum(1)
