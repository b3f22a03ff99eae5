"""The plain denoising objective on whatever was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import per_sample
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, squared_error
from mrigen.operators.base import LinearOperator, Measurements, randn_like


@OBJECTIVES.register("standard")
class Standard(Objective):
    """λ(σ) ‖f(y + σ ε, σ) − y‖² (RSD eq. 7): models the distribution of the measurements themselves."""

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample; the measurement must be an image."""
        sigma = self.params.noise.draw(len(batch), generator).to(batch.y.device)
        noise = per_sample(sigma) * randn_like(batch.y, generator)
        estimate = denoiser(batch.y + noise, sigma, None, batch.labels)
        return self.weight(sigma) * squared_error(estimate - batch.y)

    def signal(self, x: Tensor, operator: LinearOperator) -> Tensor:
        """A x without noise."""
        return operator.forward(x)
