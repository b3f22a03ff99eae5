"""Solution of linear equations by conjugate gradients, batched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    matrix: Callable[[Tensor], Tensor], rhs: Tensor, steps: int, *, tolerance: float = 1e-6
) -> Tensor:
    """Solution d of M d = b for each sample, by conjugate gradients from 0 (Hestenes and Stiefel 1952).

    A sample is finished when its residual is ``tolerance`` times its right-hand side, whatever the
    others do. For singular M and b in its range, d is the solution of least norm.

    Args:
        matrix: M, Hermitian and positive semi-definite for the inner product Re Σ conj(a) b.
        rhs: b, real or complex, (B, ...).
        steps: at most so many.
        tolerance: relative size of the residual at which a sample is finished.

    >>> import torch
    >>> diagonal = torch.tensor([[1.0, 2.0, 4.0]])
    >>> conjugate_gradient(lambda d: diagonal * d, torch.ones(1, 3), 3)
    tensor([[1.0000, 0.5000, 0.2500]])
    """

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a.conj() * b).real.flatten(1).sum(1)

    def column(values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (rhs.ndim - 1))

    solution, residual, direction = torch.zeros_like(rhs), rhs, rhs
    power = inner(rhs, rhs)
    finished = tolerance**2 * power
    for _ in range(steps):
        active = power > finished
        if not active.any():
            break
        curved = matrix(direction)
        curvature = inner(direction, curved)
        length = column(torch.where(active & (curvature > 0), power / curvature, 0))
        solution = solution + length * direction
        residual = residual - length * curved
        before, power = power, torch.where(active, inner(residual, residual), power)
        ratio = column(power / before.clamp(min=torch.finfo(before.dtype).tiny))
        direction = residual + ratio * direction
    return solution
