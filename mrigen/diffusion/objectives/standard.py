"""Objectives that take a measurement for an image of its own kind, and the plain denoising objective."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, squared_error
from mrigen.diffusion.schedules import per_sample
from mrigen.operators.base import Operator
from mrigen.operators.identity import Identity
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like


class ImageObjective(Objective):
    """An objective on measurements as images: what remains is denoising, A = I."""

    @abstractmethod
    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, and the standard deviation (B,) of their noise."""

    def augment(self, batch: Measurements, by: Augmentation, rng: torch.Generator) -> Measurements:
        """All of EDM's geometric transforms, applied to the measurements as images.

        Each label has a law of its own to learn, and at label zero that is the law of the measurements.
        Resampling correlates noise, so that a Tweedie denoiser is exact at label zero only; there it
        is used.
        """
        images, sigma = self.images(batch, rng)
        transformed, labels = by(images, rng)
        operator = Identity(images.new_zeros(()).expand(images.shape))
        return replace(batch, y=transformed, operator=operator, sigma=sigma, further=None, augment=labels)


@OBJECTIVES.register("standard")
class Standard(ImageObjective):
    """λ(σ_t) ‖f(y + σ_t ε, σ_t) − y‖² (RSD eq. 7): models the law of the measurements themselves.

    Of noisy data that is the noisy law: the teacher's samples are noisy, and distillation compares
    generated images after adding measurement noise of their own. The generator's noiseless law is then
    still the right one, for two laws are equal if they are so after one Gaussian convolution; ``tweedie``
    gets there without that detour.
    """

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, _ = self.images(batch, rng)
        sigma = self.levels(batch, rng)
        noise = per_sample(sigma) * randn_like(y, rng)
        estimate = denoiser(y + noise, sigma, None, batch.labels, batch.augment)
        return self.weight(sigma) * squared_error(estimate - y)

    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, with whatever noise they have."""
        del rng
        return batch.operator.as_image(batch.y), batch.sigma

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """A x with measurement noise, as an image."""
        y = operator.forward(x)
        return operator.as_image(y + operator.noise(y, sigma, rng))
