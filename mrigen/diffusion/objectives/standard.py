"""The plain denoising objective on whatever was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.objectives.base import OBJECTIVES, squared_error
from mrigen.diffusion.objectives.image import ImageObjective
from mrigen.diffusion.schedules import per_sample
from mrigen.operators.base import Operator
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like, sent


@OBJECTIVES.register("standard")
class Standard(ImageObjective):
    """λ(σ_t) ‖f(y + σ_t ε, σ_t) − y‖² (RSD eq. 7): models the law of the measurements themselves.

    Of noisy data that is the noisy law: the teacher's samples are noisy, and distillation compares
    generated images after adding measurement noise of their own. The generator's noiseless law is then
    still the right one, for two laws are equal if they are so after one Gaussian convolution; ``tweedie``
    gets there without that detour.
    """

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, _ = self.images(batch, generator)
        sigma = sent(self.params.noise.draw(len(batch), generator), y.device)
        noise = per_sample(sigma) * randn_like(y, generator)
        estimate = denoiser(y + noise, sigma, None, batch.labels, batch.augment)
        return self.weight(sigma) * squared_error(estimate - y)

    def images(self, batch: Measurements, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, with whatever noise they have."""
        del generator
        return batch.operator.as_image(batch.y), batch.sigma

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """A x with measurement noise, as an image."""
        y = operator.forward(x)
        return operator.as_image(y + operator.noise(y, sigma, generator))
