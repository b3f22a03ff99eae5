"""Nothing but noise: A = I."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, ImageCorruption
from mrigen.registry import Params
from mrigen.tensors import mirrored


@dataclass(frozen=True, eq=False)
class Identity(LinearOperator):
    """A x = x.

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.Identity(torch.zeros(1, 1, 4, 4))
        >>> A.operator_norm()
        tensor([1.])
    """

    like: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: N = I."""
        return True

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """The measurement mirrors like the image, which it is."""
        return mirrored(y, which, axis), self

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    @classmethod
    def example(cls) -> Identity:
        """Two colour images of odd size."""
        return cls(torch.zeros(2, 3, 7, 5))


class DenoisingParams(Params):
    """Kind of the images.

    Attributes:
        complex_valued: complex images, as those of MRI; natural images are real.
    """

    complex_valued: bool = False


@CORRUPTIONS.register("identity")
class Denoising(ImageCorruption):
    """Denoising: the measurement is the image, with noise."""

    Params = DenoisingParams
    params: DenoisingParams
    injective = True

    def draw(self, batch: int, rng: torch.Generator) -> Identity:
        """The identity."""
        del rng
        return Identity(self.zeros(batch, torch.complex64 if self.params.complex_valued else torch.float32))

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Operator:
        """The identity: everything is seen."""
        del rng
        return operator

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(DenoisingParams(), (3, 7, 5))
