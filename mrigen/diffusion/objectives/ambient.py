"""Ambient Diffusion, for pixel masks and for multi-coil Fourier masks alike."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import per_sample
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, ObjectiveParams, squared_error
from mrigen.errors import UsageError
from mrigen.operators.base import Measurements, Operator, linear, randn_like
from mrigen.operators.corruption import Corruption


@OBJECTIVES.register("ambient")
class Ambient(Objective):
    """λ(σ) ‖N f(Ñ(x + σ ε), Ã, σ) − N x‖² with N = Aᴴ A and Ã ~ p(Ã | A).

    Ambient Diffusion (Daras et al. 2023), eq. 3.2; its multi-coil form is RSD eq. 10 as DCD table 1
    and the released code have it. Formed from measurements alone: the network's input is
    Ãᴴ y + Ñ(σ ε) and the target is Aᴴ y, which equal Ñ(x + σ ε) and N x when y = A x, because
    Ã only drops from A.

    Raises:
        UsageError: the masks reveal what was not measured (theorem 4.1).
    """

    shows_mask = True

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if corruption.reason:
            raise UsageError(f"ambient training cannot use this corruption: {corruption.reason}")

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample on measurements; the further corruption is drawn anew unless the batch has one."""
        A = linear(batch.operator)
        drawn = batch.further if batch.further is not None else self.corruption.further(A, generator)
        further = linear(drawn)
        target = A.adjoint(batch.y)
        sigma = self.params.noise.draw(len(batch), generator).to(batch.y.device)
        noise = per_sample(sigma) * randn_like(target, generator)
        seen = further.adjoint(batch.y) + further.normal(noise)
        estimate = denoiser(seen, sigma, further.conditioning(), batch.labels)
        return self.weight(sigma) * squared_error(A.normal(estimate) - target)

    def signal(self, x: Tensor, operator: Operator) -> Tensor:
        """The clean image itself."""
        del operator
        return x

    def observe(self, noisy: Tensor, further: Operator) -> Tensor:
        """Ñ of the noisy image."""
        return linear(further).normal(noisy)

    def conditioning(self, further: Operator) -> Tensor | None:
        """The further mask."""
        return further.conditioning()

    def compare(self, difference: Tensor, operator: Operator) -> Tensor:
        """N of the difference: errors that the measurement cannot see do not count."""
        return linear(operator).normal(difference)
