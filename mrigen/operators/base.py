"""What every forward model is: immutable, batched, with an exact adjoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.solve import conjugate_gradient
from mrigen.tensors import ArrayLike, TensorRecord, batch_size, randn_like, tensor_of

if TYPE_CHECKING:
    from mrigen.operators.pseudo_inverse import PseudoInverse


POWER_STEPS, POWER_MARGIN = 50, 1.3


def _takes_numpy(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``forward``, ``adjoint`` or ``normal`` of an operator, of numpy arrays too."""

    @wraps(method)
    def product(self: Operator, x: ArrayLike) -> Tensor:
        if isinstance(x, np.ndarray):
            name = type(self).__name__
            if method.__name__ == "adjoint":
                x = _fitted(x, *self.measured, f"{name}: measurements")
            else:
                zero = self.zero_image()
                x = _fitted(x, tuple(zero.shape), zero, f"{name}: images")
        return method(self, x)

    return product


class Operator(TensorRecord, ABC):
    """A forward model from images (B, C, H, W) to measurements, one per sample of the batch.

    Subclasses are frozen dataclasses. What defines the model (maps, masks, kernels) are tensors with
    a leading axis of B, or of 1 where all samples share them; ``shape`` and other constants are plain
    values.

    ``A(x)`` checks the shape of x; ``forward``, which subclasses define and loops call, does not.
    All methods take numpy arrays, cast to the operator's precision, where they take tensors.

    Examples:
        >>> import numpy as np, mrigen
        >>> A = mrigen.operators.MultiCoilMRI(np.ones((2, 4, 6), complex), mrigen.masks.exact_random(6, 2, 2))
        >>> A
        MultiCoilMRI(maps=complex128 (1, 2, 4, 6), mask=bool (1, 1, 1, 6))
        >>> A(np.ones((1, 1, 4, 6))).shape
        torch.Size([1, 2, 4, 6])
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Products take numpy arrays, also those of operators in a user's file."""
        super().__init_subclass__(**options)
        for name in ("forward", "adjoint", "normal"):
            method = cls.__dict__.get(name)
            if method is not None and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _takes_numpy(method))

    def __call__(self, x: ArrayLike) -> Tensor:
        """A(x), of images (B, C, H, W).

        Args:
            x: tensor or numpy array of the operator's image shape, which is cast to its precision; real
                images are taken as complex ones where the operator wants these. An operator of one
                sample takes a batch of any size.

        Raises:
            UsageError: x has another shape, or is complex where images are real.
        """
        zero = self.zero_image()
        return self.forward(_fitted(x, tuple(zero.shape), zero, f"{type(self).__name__}: images"))

    __array_ufunc__ = None
    """numpy leaves ``array @ A`` to Python, which refuses it."""

    def __matmul__(self, other: object) -> Operator:
        """A @ B, the operator that applies B first: (A @ B)(x) = A(B(x)); linear if both are.

        Raises:
            UsageError: the measurements of B are no images for A, or B is an array.
        """
        from mrigen.operators.composition import compose

        if isinstance(other, Tensor | np.ndarray):
            raise UsageError(f"{type(self).__name__} @ array: write A(x) to apply it; A @ B joins operators")
        if not isinstance(other, Operator):
            return NotImplemented
        image, (shape, like) = self.zero_image(), other.measured
        if image.shape[1:] != shape[1:] or (like.is_complex() and not image.is_complex()):
            raise UsageError(
                f"{type(self).__name__} @ {type(other).__name__}: the second gives "
                f"{_kind(like)} {shape[1:]}, but the first takes {_kind(image)} {tuple(image.shape[1:])}"
            )
        if len(image) != shape[0] and 1 not in (len(image), shape[0]):
            raise UsageError(
                f"{type(self).__name__} @ {type(other).__name__}: batches of {len(image)} and {shape[0]} "
                "samples do not fit together"
            )
        return compose(other, self)

    @cached_property
    def measured(self) -> tuple[tuple[int, ...], Tensor]:
        """Shape of a measurement of the operator's batch, and a number of its kind on its device."""
        with torch.no_grad():
            y = self.forward(self.zero_image())
        return tuple(y.shape), y.new_zeros(())

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A(x): image to measurement."""

    @abstractmethod
    def zero_image(self) -> Tensor:
        """An image of zeros of the operator's batch, shape, kind and device."""

    @abstractmethod
    def as_image(self, y: Tensor) -> Tensor:
        """A measurement as an image of the size that networks and people see."""

    def within_support(self, x: Tensor) -> Tensor:
        """What of x a complete measurement of this kind could show; here it is everything."""
        return x

    def conditioning(self) -> Tensor | None:
        """Extra network channels that describe A, float32 (B, c, H, W); None when there is nothing to say."""
        return None

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Measurement noise of standard deviation σ (B,) per real component where A measures."""
        return sigma.reshape(-1, *[1] * (y.ndim - 1)) * randn_like(y, rng)

    def whitened_image(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A noisy measurement as an image whose noise is white, and the standard deviation (B,) of that.

        Operators that leave pixels out add the noise that those lack.

        Args:
            y: measurement with noise of standard deviation ``sigma``.
            sigma: (B,).
            rng: source of the noise that is added.

        Raises:
            UsageError: the noise is correlated in the image.
        """
        del rng
        if self.as_image(y) is not y:
            raise UsageError(
                f"{type(self).__name__}: the measurement's noise is correlated in the image, which plain "
                "Tweedie cannot model; use ambient-tweedie where there are masks"
            )
        return y, sigma

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """Measurements and operators of the images mirrored along an axis, where ``which`` (B,) says so.

        Raises:
            UsageError: a mirrored image has no measurement of this kind.
        """
        del y, which, axis
        raise UsageError(f"{type(self).__name__} cannot be mirrored: train without augmentation (augment: 0)")


class LinearOperator(Operator):
    """A linear forward model with its exact adjoint.

    Inner products are Re Σ conj(a)·b, so that real and complex images share the contract
    ⟨A x, y⟩ = ⟨x, Aᴴ y⟩.

    Examples:
        >>> import torch, mrigen
        >>> A = mrigen.operators.MultiCoilMRI.example()
        >>> x = torch.randn(2, 1, 12, 9, dtype=torch.complex64)
        >>> torch.allclose(A.H(A(x)), A.normal(x), atol=1e-5)
        True
        >>> A.solve(A(x), iterations=5).shape
        torch.Size([2, 1, 12, 9])
    """

    @property
    def H(self) -> LinearOperator:  # noqa: N802  the adjoint's symbol
        """Aᴴ as an operator: ``A.H(y)`` is ``A.adjoint(y)`` with its shape checked, ``A.H.H`` is A."""
        return Adjoint(self)

    def solve(
        self, y: ArrayLike, *, regularisation: float = 0.0, iterations: int = 30, tolerance: float = 1e-6
    ) -> Tensor:
        """argmin_x ‖A x − y‖² + λ ‖x‖², by conjugate gradients from 0 on (AᴴA + λ) x = Aᴴ y.

        Without λ, and run to the end, the solution of least norm.

        Args:
            y: measurements, tensor or numpy array.
            regularisation: λ ≥ 0.
            iterations: at most so many steps.
            tolerance: a sample is finished when its residual is so small against Aᴴ y.

        Returns:
            Images (B, C, H, W).

        Raises:
            UsageError: y has another shape than A's measurements, λ is negative, or there is no iteration.
        """
        if regularisation < 0 or iterations < 1:
            raise UsageError(
                f"solve: regularisation {regularisation} must not be negative, and iterations {iterations} "
                "at least 1"
            )
        shape, like = self.measured
        rhs = self.adjoint(_fitted(y, shape, like, f"{type(self).__name__}: measurements"))
        return conjugate_gradient(
            lambda x: self.normal(x) + regularisation * x, rhs, iterations, tolerance=tolerance
        )

    def operator_norm(self, iterations: int = POWER_STEPS, rng: torch.Generator | None = None) -> Tensor:
        """‖A‖ = max ‖A x‖ / ‖x‖ of each sample (B,), by power iteration on AᴴA.

        An estimate from below: after k iterations of n pixels its expected relative error is at most
        about ln(n) / 2k (Kuczyński and Woźniakowski 1992, "Estimating the largest eigenvalue by the
        power and Lanczos algorithms with a random start", theorem 3.1).

        Args:
            iterations: applications of AᴴA.
            rng: source of the first image; seed 0 by default.
        """
        zero = self.zero_image()
        with torch.no_grad():
            v = randn_like(zero, rng if rng is not None else torch.Generator().manual_seed(0))
            v = v.expand(batch_size(self), *v.shape[1:])
            squared = zero.real.new_zeros(len(v))
            for _ in range(iterations):
                length = torch.linalg.vector_norm(v.flatten(1), dim=1)
                v = self.normal(v / length.clamp(min=torch.finfo(length.dtype).tiny).view(-1, 1, 1, 1))
                squared = torch.linalg.vector_norm(v.flatten(1), dim=1)
        return squared.sqrt()

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: measurement to image. Applies A's own mask, so it may be given a fuller measurement."""

    @cached_property
    def eigenvalue_bound(self) -> Tensor:
        """``norm_bound``, worked out once for all pseudo-inverses of this operator."""
        with torch.inference_mode(mode=False):
            return self.norm_bound()

    @property
    def is_projection(self) -> bool:
        """Whether N N = N for N = Aᴴ A, whatever the mask; False where that depends on the values."""
        return False

    def normal(self, x: Tensor) -> Tensor:
        """Aᴴ A x."""
        return self.adjoint(self.forward(x))

    def norm_bound(self) -> Tensor:
        """Upper bound of the largest eigenvalue of N = Aᴴ A of each sample, real (B,).

        1 for projections. Otherwise 1.3 ‖N v‖ / ‖v‖ after 50 steps of power iteration from a random v
        of a fixed seed: the expected relative error of so many steps is at most 0.871 ln n / 49
        (Kuczyński and Woźniakowski 1992, theorem 3.1), which 1.3 makes up for up to n = 400,000 pixels.
        It takes 50 products by N; operators that know better say so.
        """
        zero = self.zero_image()
        norm = zero.real.new_ones(batch_size(self))
        if self.is_projection:
            return norm
        with torch.no_grad():
            v = randn_like(zero, torch.Generator().manual_seed(0)).expand(len(norm), *zero.shape[1:])
            for _ in range(POWER_STEPS):
                v = self.normal(v / norm.clamp(min=torch.finfo(norm.dtype).tiny).view(-1, 1, 1, 1))
                norm = v.flatten(1).norm(dim=1)
        return POWER_MARGIN * norm

    def pseudo_inverse(self, tau: float = 0.05, steps: int = 8) -> PseudoInverse:
        """(N + τ L)⁻¹ and P = (N + τ L)⁻¹ N of N = Aᴴ A with ‖N‖ ≤ L; see ``PseudoInverse``."""
        from mrigen.operators.pseudo_inverse import PseudoInverse

        return PseudoInverse(self, tau, steps)

    def as_image(self, y: Tensor) -> Tensor:
        """Aᴴ y; operators whose measurement looks like an image return that."""
        return self.adjoint(y)


@dataclass(frozen=True, eq=False)
class Adjoint(LinearOperator):
    """Aᴴ of a linear operator A: its images are A's measurements, and the other way round.

    Attributes:
        of: A.
    """

    of: LinearOperator

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """A."""
        return self.of

    def forward(self, x: Tensor) -> Tensor:
        """Aᴴ x."""
        return self.of.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A y."""
        return self.of.forward(y)

    def zero_image(self) -> Tensor:
        """Zeros like a measurement of A."""
        shape, like = self.of.measured
        return like.new_zeros(shape)

    @classmethod
    def example(cls) -> Adjoint:
        """From k-space of three coils to images."""
        from mrigen.operators.mri import MultiCoilMRI

        return cls(MultiCoilMRI.example())


def fault_of_shape(array: Tensor, shape: tuple[int, ...], like: Tensor) -> str:
    """Why a batch is not of a shape, of one sample for any batch, and kind; empty if it is."""
    if (
        array.ndim != len(shape)
        or tuple(array.shape[1:]) != tuple(shape[1:])
        or shape[0] not in (1, len(array))
    ):
        expected = f"({'B' if shape[0] == 1 else shape[0]}, {', '.join(map(str, shape[1:]))})"
        missing = len(shape) - array.ndim
        hint = ""
        if missing > 0 and tuple(array.shape) == tuple(shape[missing:]):
            hint = f"; add the leading axes, x[{', '.join(['None'] * missing)}]"
        return f"must be {expected}, not {tuple(array.shape)}{hint}"
    if array.is_complex() and not like.is_complex():
        return f"are real here, not {str(array.dtype).removeprefix('torch.')}; give x.real or x.abs()"
    return ""


def _fitted(array: ArrayLike, shape: tuple[int, ...], like: Tensor, what: str) -> Tensor:
    """A batch of the wanted shape, cast to the precision, kind and device of ``like``.

    Raises:
        UsageError: the shape is another one, also where it would broadcast, or complex values would lose
            their imaginary part.
    """
    x = tensor_of(array)
    if fault := fault_of_shape(x, shape, like):
        raise UsageError(f"{what} {fault}")
    return x.to(device=like.device, dtype=like.dtype)


def _kind(x: Tensor) -> str:
    return "complex" if x.is_complex() else "real"


def linear(operator: Operator) -> LinearOperator:
    """The operator, for code that needs an adjoint.

    Raises:
        UsageError: it is not linear.
    """
    if not isinstance(operator, LinearOperator):
        raise UsageError(f"{type(operator).__name__} is not linear: it has no adjoint; use another objective")
    return operator
