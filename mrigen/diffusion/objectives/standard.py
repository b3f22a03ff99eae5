"""The plain denoising objective on whatever was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import per_sample
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, squared_error
from mrigen.operators.base import Measurements, Operator, randn_like


@OBJECTIVES.register("standard")
class Standard(Objective):
    """λ(σ) ‖f(y + σ ε, σ) − y‖² (RSD eq. 7): models the distribution of the measurements themselves."""

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y = batch.operator.as_image(batch.y)
        sigma = self.params.noise.draw(len(batch), generator).to(y.device)
        noise = per_sample(sigma) * randn_like(y, generator)
        estimate = denoiser(y + noise, sigma, None, batch.labels)
        return self.weight(sigma) * squared_error(estimate - y)

    def signal(self, x: Tensor, operator: Operator) -> Tensor:
        """A x without noise, as an image."""
        return operator.as_image(operator.forward(x))
