"""A corruption: a distribution p(A) over forward models, with the noise level of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import Measurements, Operator
from mrigen.operators.noise import Noise
from mrigen.registry import Params, Registry

CORRUPTIONS: Registry[Corruption] = Registry("operator", "mrigen.operators")

Shape = tuple[int, int, int]


class Corruption(ABC):
    """Distribution over operators A, and over operators Ã that see a little less than A.

    Attributes:
        noise: distribution of the measurement noise's standard deviation.
        reason: why ambient training cannot work with it: E[Aᵀ A | Ã] must have full rank (Ambient
            Diffusion, theorem 4.1); empty where it can.
    """

    Params: ClassVar[type[Params]]
    noise: Noise
    reason: str = ""

    @abstractmethod
    def draw(self, batch: int, generator: torch.Generator) -> Operator:
        """A ~ p(A), one per sample."""

    @abstractmethod
    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A), one per sample."""

    def measure(self, x: Tensor, generator: torch.Generator) -> Measurements:
        """Corrupt clean images as the data are: y = A x + σ ε with a fresh A and σ per sample."""
        operator = self.draw(len(x), generator).to(device=x.device)
        sigma = self.noise.draw(len(x), generator).to(x.device)
        y = operator.forward(x)
        if bool(self.noise):
            y = y + operator.noise(y, sigma, generator)
        return Measurements(y, operator, sigma)


class ImageCorruption(Corruption):
    """A corruption of real images of one shape, made from a recipe's words.

    Args:
        params: the operator's constants.
        shape: (C, H, W) of the clean images.
        noise: measurement noise.

    Raises:
        UsageError: the operator does not fit images of this shape.
    """

    def __init__(self, params: Params, shape: Shape, noise: Noise | None = None) -> None:
        self.params = params
        self.shape = shape
        self.noise = noise if noise is not None else Noise()

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """Operators that are not random have nothing to drop."""
        del operator, generator
        raise UsageError(f"{type(self).__name__} has no further corruption: {self.reason}")

    @classmethod
    @abstractmethod
    def example(cls) -> Self:
        """Small instance, of odd size, for the contract tests."""
