"""A corruption: a distribution p(A) over forward models, with the noise level of the data.

A recipe describes one by a name and parameters, ``{"name": "gaussian-blur", "std": 2.0}``. The name
is a registered one, or a class in a user's own file, ``my_ops.py:MyOperator``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mrigen import plugins, seeds
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.measurements import Measurements
from mrigen.operators.noise import Noise
from mrigen.registry import Params, Registry
from mrigen.tensors import randn_like, to_device

Shape = tuple[int, int, int]
Spec = Mapping[str, Any]
FIXED = "drops nothing at random, so that what it hides is never measured; use standard or tweedie"
NAIVE = (
    "the further corruption hides nothing (δ = 0): this is the naive masked loss, a baseline, which learns "
    "nothing of what the operators do not measure"
)
TOLERANCE = 1e-3
"""Of products of norms; float32 leaves about 1e-6, NUFFTs 1e-5."""


class OperatorRegistry(Registry["Corruption"]):
    """The operators by name."""

    def files(self, spec: Spec) -> list[Path]:
        """A user's file, and the files that the operator's parameters name."""
        named: list[Path] = self[str(spec["name"])].files(self.params(spec))
        return super().files(spec) + named


CORRUPTIONS = OperatorRegistry("operator", "mrigen.operators", "mrigen.operators.corruption.ImageCorruption")


class Corruption(ABC):
    """Distribution over operators A, and over operators Ã that see a little less than A.

    Attributes:
        noise: distribution of the measurement noise's standard deviation.
        ambient_obstacle: why ambient training cannot work with it: E[Aᵀ A | Ã] must have full rank (Ambient
            Diffusion, theorem 4.1); empty where it can.
        baseline: what ambient training with it is where the theorem is given up on purpose (``NAIVE``);
            empty otherwise.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> corruption = mg.operators.make_corruption({"name": "inpainting", "missing": 0.5}, (1, 8, 8))
        >>> data = corruption.measure(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0))
        >>> type(data).__name__, type(data.operator).__name__
        ('Measurements', 'PixelMask')
    """

    Params: ClassVar[type[Params]]
    noise: Noise = Noise()
    ambient_obstacle: str = ""
    baseline: str = ""

    def noisy(self) -> Corruption:
        """The same with the noise of the data in ``noise``, for objectives that account for it.

        Raises:
            UsageError: nobody knows the data's noise.
        """
        return self

    @abstractmethod
    def draw(self, batch: int, rng: torch.Generator) -> Operator:
        """A ~ p(A), one per sample."""

    @abstractmethod
    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A), one per sample."""

    def measure(self, x: Tensor, rng: torch.Generator) -> Measurements:
        """Corrupt clean images as the data are: y = A x + σ ε with a fresh A and σ per sample."""
        return self.measure_by(self.draw(len(x), rng).to_device(x.device), x, rng)

    def measure_by(self, operator: Operator, x: Tensor, rng: torch.Generator) -> Measurements:
        """The same by a given A on the device of x."""
        sigma = to_device(self.noise.draw(len(x), rng), x.device)
        y = operator.forward(x)
        if bool(self.noise):
            y = y + operator.noise(y, sigma, rng)
        return Measurements(y, operator, sigma)


class ImageCorruption(Corruption):
    """A corruption of images of one shape, made from a recipe's words.

    Attributes:
        injective: whether every A keeps all of the image, so that nothing is lost in it.

    Args:
        params: the operator's constants.
        shape: (C, H, W) of the clean images.
        noise: measurement noise.

    Raises:
        UsageError: the operator does not fit images of this shape.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> blur = mg.operators.make_corruption({"name": "gaussian-blur", "std": 1.0}, (1, 16, 16))
        >>> blur.draw(2, torch.Generator())(torch.ones(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    injective: ClassVar[bool] = False

    def __init__(self, params: Params, shape: Shape, noise: Noise | None = None) -> None:
        self.params = params
        self.shape = shape
        self.noise = noise if noise is not None else Noise()

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Operator:
        """Refuse: an operator that is not random has nothing to drop."""
        del operator, rng
        raise UsageError(
            f"{type(self).__name__} has no further corruption: "
            f"{self.ambient_obstacle or 'define corrupt_further'}"
        )

    def zeros(self, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A batch of zero images that takes the memory of one number."""
        return torch.zeros((), dtype=dtype).expand(batch, *self.shape)

    @classmethod
    def files(cls, params: Any) -> list[Path]:
        """Files that the parameters name and that decide what the operator is."""
        del params
        return []

    @classmethod
    def example(cls) -> Self:
        """Small instance, of odd size, for the contract tests; every registered class has one."""
        raise NotImplementedError(f"{cls.__name__} has no example for the contract tests")


def make_corruption(spec: Spec, shape: Shape, noise: Noise | None = None) -> ImageCorruption:
    """The corruption that a recipe or a store describes.

    Args:
        spec: ``name`` and parameters, as written or as ``CORRUPTIONS.freeze`` returned them.
        shape: (C, H, W) of the clean images.
        noise: measurement noise; None for noiseless data.

    Raises:
        UsageError: unknown name or parameter, an operator that does not fit the images, a file that
            changed since the spec was frozen, or a user's operator that is not right.

    Examples:
        >>> import mrigen as mg
        >>> mg.operators.make_corruption({"name": "super-resolution", "factor": 2}, (1, 8, 8)).shape
        (1, 8, 8)
    """
    corruption: ImageCorruption = CORRUPTIONS.build(spec, shape=shape, noise=noise)
    name = str(spec.get("name", ""))
    if plugins.is_file(name):
        with plugins.errors_named(plugins.split(name)[0], "making the operator"):
            check(corruption.draw(2, seeds.seeded_rng(0, "check")), (2, *shape), name)
    return corruption


def check(operator: Operator, shape: tuple[int, ...], name: str) -> None:
    """Check of shapes, linearity and the adjoint of A.

    Tests A(2a − 3b) = 2 A a − 3 A b and Re⟨A a, y⟩ = Re⟨a, Aᴴ y⟩ for random a, b, y.

    Args:
        operator: A.
        shape: (B, C, H, W) of a batch of images for it.
        name: what messages call it.

    Raises:
        UsageError: one of these fails.
    """
    rng = seeds.seeded_rng(0, "check operator")
    zero = operator.zero_image()
    if zero.shape != shape:
        raise UsageError(
            f"{name}: zero_image has shape {tuple(zero.shape)}; return {shape} for {shape[0]} images"
        )
    a, b = randn_like(zero, rng), randn_like(zero, rng)
    measurement = operator.forward(a)
    if len(measurement) != len(a) or not measurement.isfinite().all():
        raise UsageError(
            f"{name}: forward of {len(a)} images gives shape {tuple(measurement.shape)}, or values that are "
            "not finite; return one finite measurement per image"
        )
    if isinstance(operator, LinearOperator):
        _check_linear(operator, a, b, randn_like(measurement, rng), name)


def _check_linear(operator: LinearOperator, a: Tensor, b: Tensor, y: Tensor, name: str) -> None:
    measurement = operator.forward(a)
    error = operator.forward(2 * a - 3 * b) - (2 * measurement - 3 * operator.forward(b))
    if error.norm() > TOLERANCE * measurement.norm():
        raise UsageError(f"{name}: forward is not linear; derive it from Operator, not LinearOperator")
    back = operator.adjoint(y)
    if back.shape != a.shape:
        raise UsageError(
            f"{name}: adjoint gives shape {tuple(back.shape)}; return the image's {tuple(a.shape)}"
        )
    left, right = _inner(measurement, y), _inner(a, back)
    if abs(left - right) > TOLERANCE * float(measurement.norm() * y.norm() + a.norm() * back.norm()):
        raise UsageError(
            f"{name}: adjoint is not that of forward, <A x, y> = {left:.6g} but <x, Aᴴ y> = {right:.6g}; "
            "mend it"
        )


def _inner(a: Tensor, b: Tensor) -> float:
    return float(torch.sum((a.conj() * b).real))
