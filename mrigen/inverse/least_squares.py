"""Data consistency: regularised least squares by conjugate gradients, batched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrigen.inverse.task import column, square
from mrigen.operators.base import LinearOperator


def conjugate_gradient(
    matrix: Callable[[Tensor], Tensor], rhs: Tensor, steps: int, tolerance: float = 1e-6
) -> Tensor:
    """Solve M d = b for each sample, from d = 0 (Hestenes & Stiefel 1952).

    A sample stops when its residual is ``tolerance`` times its right-hand side, whatever the others
    do. For singular M and b in its range, d is the solution of least norm.

    Args:
        matrix: M, Hermitian and positive semi-definite for the inner product Re Σ conj(a) b.
        rhs: b, (B, ...).
        steps: at most so many.
        tolerance: relative size of the residual.
    """
    found = torch.zeros_like(rhs)
    residual, direction = rhs, rhs
    power = square(rhs)
    enough = tolerance**2 * power
    for _ in range(steps):
        active = power > enough
        if not active.any():
            break
        curved = matrix(direction)
        curvature = (direction.conj() * curved).real.flatten(1).sum(1)
        length = torch.where(active & (curvature > 0), power / curvature, 0)
        found = found + column(length, rhs) * direction
        residual = residual - column(length, rhs) * curved
        before, power = power, torch.where(active, square(residual), power)
        direction = (
            residual + column(power / before.clamp(min=torch.finfo(before.dtype).tiny), rhs) * direction
        )
    return found


def data_consistent(
    operator: LinearOperator,
    y: Tensor,
    centre: Tensor,
    weight: Tensor,
    steps: int = 30,
    tolerance: float = 1e-6,
) -> Tensor:
    """argmin_x ‖A x − y‖² + w ‖x − x̂‖², by conjugate gradients from x̂.

    For w = 0 it is the image closest to x̂ among those that fit the data best: what A does not see is
    left as it is.

    Args:
        operator: A.
        y: measurements.
        centre: x̂, (B, C, H, W).
        weight: w, (B,).
        steps: conjugate-gradient steps at most.
        tolerance: relative size of the remaining gradient.
    """

    def matrix(d: Tensor) -> Tensor:
        return operator.normal(d) + column(weight, d) * d

    rhs = operator.adjoint(y - operator.forward(centre))
    return centre + conjugate_gradient(matrix, rhs, steps, tolerance)


def largest_eigenvalue(operator: LinearOperator, start: Tensor, steps: int = 30) -> Tensor:
    """Largest eigenvalue of AᴴA for each sample (B,), by power iteration from random images."""
    x, value = start, torch.ones(len(start), device=start.device)
    for _ in range(steps):
        norm = square(x).sqrt().clamp(min=torch.finfo(value.dtype).tiny)
        x = operator.normal(x / column(norm, x))
        value = square(x).sqrt()
    return value
