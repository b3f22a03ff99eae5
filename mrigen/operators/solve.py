"""Solution of linear equations by conjugate gradients, batched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Matrix = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ConjugateGradient:
    """Iterate of M x = b for each sample of a batch, from x = 0 (Hestenes & Stiefel 1952).

    M is Hermitian and positive semi-definite for the inner product Re Σ conj(a) b. For singular M and b in
    its range, x tends to the solution of least norm. A sample rests, whatever the others do, once its
    residual is ``tolerance`` times b, or once rounding decides its direction: then pᴴ M p is no more than the
    rounding error of ‖p‖ ‖M p‖, and the step along p has no meaning. Steps past that point let x grow without
    bound where M is singular.

    Attributes:
        x: the solution so far, (B, ...).
        residual: b − M x as the recurrence has it.
        direction: p.
        power: ‖residual‖², (B,).
        enough: ‖residual‖² at which a sample is solved, (B,); infinite once a sample rests.
    """

    x: Tensor
    residual: Tensor
    direction: Tensor
    power: Tensor
    enough: Tensor

    @classmethod
    def start(cls, rhs: Tensor, tolerance: float = 1e-6) -> ConjugateGradient:
        """Zero.

        Args:
            rhs: b, (B, ...).
            tolerance: relative size of the residual at which a sample is solved; at least eight roundings.
        """
        power = _inner(rhs, rhs)
        smallest = max(tolerance, 8 * torch.finfo(rhs.dtype).eps)
        return cls(torch.zeros_like(rhs), rhs, rhs, power, smallest**2 * power)

    @property
    def active(self) -> Tensor:
        """Samples that are not solved, bool (B,)."""
        return self.power > self.enough

    def step(self, matrix: Matrix) -> ConjugateGradient:
        """The next iterate; samples that are solved stay as they are.

        Args:
            matrix: M.
        """
        p, eps = self.direction, torch.finfo(self.direction.dtype).eps
        curved = matrix(p)
        curvature = _inner(p, curved)
        rounding = eps * (_inner(p, p) * _inner(curved, curved)).sqrt()
        active = self.active & (curvature > rounding)
        length = torch.where(active, self.power / curvature, 0)
        residual = self.residual - _column(length, p) * curved
        power = torch.where(active, _inner(residual, residual), self.power)
        ratio = torch.where(active, power / self.power, 0)
        enough = torch.where(active, self.enough, torch.inf)
        direction = residual + _column(ratio, p) * p
        return ConjugateGradient(self.x + _column(length, p) * p, residual, direction, power, enough)


def conjugate_gradient(matrix: Matrix, rhs: Tensor, steps: int, tolerance: float = 1e-6) -> Tensor:
    """Solution x of M x = b for each sample, see ``ConjugateGradient``.

    Args:
        matrix: M.
        rhs: b, (B, ...).
        steps: at most so many.
        tolerance: relative size of the residual at which a sample is solved.

    Examples:
        >>> import torch
        >>> diagonal = torch.tensor([[1.0, 2.0, 4.0]])
        >>> conjugate_gradient(lambda d: diagonal * d, torch.ones(1, 3), 3)
        tensor([[1.0000, 0.5000, 0.2500]])
    """
    state = ConjugateGradient.start(rhs, tolerance)
    for _ in range(steps):
        if not state.active.any():
            break
        state = state.step(matrix)
    return state.x


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Re Σ conj(a) b of each sample, (B,)."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
