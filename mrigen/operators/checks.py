"""Whether an operator keeps what it promises; a user's own is checked before it is used."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.tensors import randn_like

TOLERANCE = 1e-3
"""Of products of norms; float32 leaves about 1e-6, NUFFTs 1e-5."""


def check(operator: Operator, shape: tuple[int, ...], name: str) -> None:
    """Look at shapes, linearity and the adjoint of A.

    Tests A(2a − 3b) = 2 A a − 3 A b and Re⟨A a, y⟩ = Re⟨a, Aᴴ y⟩ for random a, b, y.

    Args:
        operator: A.
        shape: (B, C, H, W) of a batch of images for it.
        name: what messages call it.

    Raises:
        UsageError: one of these fails.
    """
    generator = seeds.generator(0, "check operator")
    zero = operator.zero_image()
    if zero.shape != shape:
        raise UsageError(
            f"{name}: zero_image has shape {tuple(zero.shape)}; return {shape} for {shape[0]} images"
        )
    a, b = randn_like(zero, generator), randn_like(zero, generator)
    seen = operator.forward(a)
    if len(seen) != len(a) or not seen.isfinite().all():
        raise UsageError(
            f"{name}: forward of {len(a)} images gives shape {tuple(seen.shape)}, or values that are not "
            "finite; return one finite measurement per image"
        )
    if isinstance(operator, LinearOperator):
        _check_linear(operator, a, b, randn_like(seen, generator), name)


def _check_linear(operator: LinearOperator, a: Tensor, b: Tensor, y: Tensor, name: str) -> None:
    seen = operator.forward(a)
    error = operator.forward(2 * a - 3 * b) - (2 * seen - 3 * operator.forward(b))
    if error.norm() > TOLERANCE * seen.norm():
        raise UsageError(f"{name}: forward is not linear; derive it from Operator, not LinearOperator")
    back = operator.adjoint(y)
    if back.shape != a.shape:
        raise UsageError(
            f"{name}: adjoint gives shape {tuple(back.shape)}; return the image's {tuple(a.shape)}"
        )
    left, right = _inner(seen, y), _inner(a, back)
    if abs(left - right) > TOLERANCE * float(seen.norm() * y.norm() + a.norm() * back.norm()):
        raise UsageError(
            f"{name}: adjoint is not that of forward, <A x, y> = {left:.6g} but <x, Aᴴ y> = {right:.6g}; "
            "mend it"
        )


def _inner(a: Tensor, b: Tensor) -> float:
    return float(torch.sum((a.conj() * b).real))
