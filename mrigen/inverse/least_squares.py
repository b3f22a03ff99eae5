"""Data consistency: regularised least squares by conjugate gradients, batched."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.inverse.task import column, square
from mrigen.operators.base import LinearOperator
from mrigen.operators.solve import conjugate_gradient


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
