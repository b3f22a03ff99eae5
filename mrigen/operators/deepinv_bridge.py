"""Operators from deepinv and for deepinv, and denoisers for deepinv's algorithms.

deepinv (Tachella et al. 2025, "DeepInverse: A Python package for solving imaging inverse problems with
deep learning", arXiv:2505.20160) writes complex images as two real channels, the real part first, and
complex measurements (B, ...) as real ones (B, 2, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

import torch
from torch import Tensor, nn

from mrigen.denoiser import Denoiser, to_channels, to_complex
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.measurements import Measurements
from mrigen.tensors import batch_size


@dataclass(frozen=True, eq=False)
class DeepinvOperator(LinearOperator):
    """A ``deepinv.physics.LinearPhysics`` as a forward model; it is the same for all samples.

    For complex images the physics is called with two real channels for each complex one; measurements
    stay as it gives them.

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.
        physics: with ``A`` and ``A_adjoint``.
    """

    like: Tensor
    physics: Any

    def forward(self, x: Tensor) -> Tensor:
        """A(x) without the physics' noise."""
        y: Tensor = self.physics.A(to_channels(x))
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """``A_adjoint``; the real part of it for real images."""
        x: Tensor = self.physics.A_adjoint(y)
        if self.like.is_complex():
            return x if x.is_complex() else to_complex(x)
        return x.real if x.is_complex() else x

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    @classmethod
    def cat(cls, records: Sequence[Self], sizes: Sequence[int] | None = None) -> Self:
        """See ``TensorRecord.cat``; the physics must be one object."""
        if any(record.physics is not records[0].physics for record in records):
            raise ValueError("records differ in physics")
        counts = sizes if sizes is not None else [batch_size(record) for record in records]
        like = [r.like.expand(n, -1, -1, -1) for r, n in zip(records, counts, strict=True)]
        return cls(torch.cat(like), records[0].physics)


def from_deepinv(
    physics: Any, shape: tuple[int, int, int], *, complex_valued: bool = False
) -> DeepinvOperator:
    """A linear physics of deepinv as an operator for any batch.

    Args:
        physics: ``deepinv.physics.LinearPhysics``, or anything with ``A`` and ``A_adjoint``.
        shape: (C, H, W) of an image; of complex images C counts complex channels.
        complex_valued: whether images are complex64 here and have two channels for each in deepinv.

    Raises:
        UsageError: the physics has no adjoint, or does not take such images.

    Examples:
        >>> from types import SimpleNamespace
        >>> halve = SimpleNamespace(A=lambda x: x / 2, A_adjoint=lambda y: y / 2)
        >>> from_deepinv(halve, (1, 2, 2)).normal(torch.ones(3, 1, 2, 2)).unique()
        tensor([0.2500])
    """
    if not callable(getattr(physics, "A", None)) or not callable(getattr(physics, "A_adjoint", None)):
        raise UsageError(
            f"{type(physics).__name__} has no A and A_adjoint: give a deepinv.physics.LinearPhysics"
        )
    operator = DeepinvOperator(
        torch.zeros(1, *shape, dtype=torch.complex64 if complex_valued else torch.float32), physics
    )
    try:
        back = operator.adjoint(operator.forward(operator.zero_image()))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{type(physics).__name__} does not take images of {shape}: {reason}") from error
    if back.shape != operator.like.shape:
        raise UsageError(
            f"{type(physics).__name__}: A_adjoint gives {tuple(back.shape)} instead of "
            f"{tuple(operator.like.shape)}"
        )
    return operator


def to_deepinv(what: Operator | Measurements | Denoiser) -> Any:
    """An operator as a physics of deepinv, measurements with it, or a model as one of deepinv's denoisers.

    Of an operator: a ``LinearPhysics`` if it is linear, otherwise a ``Physics``, without noise. Of
    measurements: (y, physics), which deepinv's algorithms take. Of a model or a denoiser: a ``Denoiser``
    whose ``forward(x, sigma)`` is E[x₀ | x₀ + σ ε]. Images and noise levels keep mrigen's units. All are
    real: complex images (B, C, H, W) have 2C channels, complex measurements (B, ...) are (B, 2, ...).

    An operator of several samples takes batches of as many; one sample, ``A[0]``, takes any.

    Args:
        what: an operator, ``mrigen.Measurements``, or a ``mrigen.Model`` or its ``denoiser``.

    Raises:
        UsageError: deepinv is not installed, or ``what`` is something else.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.MultiCoilMRI.example()
        >>> try:
        ...     y, physics = mg.operators.to_deepinv(mg.Measurements(A(A.zero_image()), A))
        ...     print(y.shape, physics.A_adjoint(y).shape)
        ... except mg.UsageError:  # deepinv is not installed here
        ...     print("torch.Size([2, 2, 3, 12, 9]) torch.Size([2, 2, 12, 9])")
        torch.Size([2, 2, 3, 12, 9]) torch.Size([2, 2, 12, 9])
    """
    deepinv = _deepinv()
    if isinstance(what, Measurements):
        return _parts(what.y), to_deepinv(what.operator)
    if isinstance(what, Operator):
        forward = _Forward(what)
        if isinstance(what, LinearOperator):
            return deepinv.physics.LinearPhysics(A=forward, A_adjoint=_Backward(what))
        return deepinv.physics.Physics(A=forward)
    denoiser = getattr(what, "denoiser", what)
    if not callable(denoiser):
        raise UsageError(
            "to_deepinv: give an operator, mrigen.Measurements, or a mrigen.Model or its denoiser, not "
            f"{type(what).__name__}"
        )
    return _denoiser(deepinv, denoiser)


def _parts(y: Tensor) -> Tensor:
    """Real and imaginary part of complex measurements (B, ...) along a new axis, (B, 2, ...)."""
    return torch.stack([y.real, y.imag], 1) if y.is_complex() else y


class _Forward:
    """A of deepinv, from real images to real measurements."""

    def __init__(self, operator: Operator) -> None:
        self._operator, self._complex = operator, operator.zero_image().is_complex()

    def __call__(self, x: Tensor, **_: Any) -> Tensor:
        return _parts(self._operator(to_complex(x) if self._complex else x))


class _Backward:
    """Aᴴ of deepinv."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator, self._complex = operator, operator.measured[1].is_complex()

    def __call__(self, y: Tensor, **_: Any) -> Tensor:
        if self._complex:
            if y.is_complex():
                raise UsageError("measurements are real in deepinv, (B, 2, ...): to_deepinv(data) gives them")
            y = torch.complex(y[:, 0], y[:, 1])
        return to_channels(self._operator.H(y))


def _denoiser(deepinv: Any, denoiser: Denoiser) -> nn.Module:
    """A subclass of deepinv's denoisers that calls ours."""
    complex_valued = getattr(getattr(denoiser, "conventions", None), "image", "real") == "complex"

    class MrigenDenoiser(deepinv.models.Denoiser):  # type: ignore[misc]
        """A denoiser of mrigen."""

        def __init__(self) -> None:
            super().__init__()
            self.denoiser = denoiser

        def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
            """E[x₀ | x₀ + σ ε] of images (B, C, H, W); σ is a number or (B,)."""
            level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1).expand(len(x))
            return to_channels(self.denoiser(to_complex(x) if complex_valued else x, level))

    module: nn.Module = MrigenDenoiser()
    return module


def _deepinv() -> Any:
    try:
        return import_module("deepinv")
    except ImportError as error:
        raise UsageError("to_deepinv: deepinv is not installed; pip install deepinv") from error
