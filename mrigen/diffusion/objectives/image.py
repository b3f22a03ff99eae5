"""Objectives that take a measurement for an image of its own kind."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives.base import Objective
from mrigen.operators.identity import Identity
from mrigen.operators.measurements import Measurements


class ImageObjective(Objective):
    """An objective on measurements as images: what remains is denoising, A = I."""

    @abstractmethod
    def images(self, batch: Measurements, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images, and the standard deviation (B,) of their noise."""

    def augment(self, batch: Measurements, by: Augmentation, generator: torch.Generator) -> Measurements:
        """All of EDM's geometric transforms, applied to the measurements as images.

        Each label has a law of its own to learn, and at label zero that is the law of the measurements.
        Resampling correlates noise, so that a Tweedie denoiser is exact at label zero only; there it
        is used.
        """
        images, sigma = self.images(batch, generator)
        transformed, labels = by(images, generator)
        operator = Identity(images.new_zeros(()).expand(images.shape))
        return replace(batch, y=transformed, operator=operator, sigma=sigma, further=None, augment=labels)
