"""Least squares by conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mrigen.inverse.base import (
    SOLVERS,
    Count,
    IterativeParams,
    NonNegative,
    Positive,
    Solver,
    SolverParams,
    State,
)
from mrigen.inverse.task import Task, column, square


class CGSenseParams(IterativeParams):
    """Regularised least squares.

    Attributes:
        steps: conjugate-gradient steps.
        regularization: λ.
        tolerance: relative residual of the normal equations at which they count as solved.
    """

    steps: Count = 30
    regularization: NonNegative = 0.0
    tolerance: Positive = 1e-6


@dataclass
class CGState(State):
    """Conjugate gradients.

    Attributes:
        residual: of the normal equations.
        direction: of the search.
        enough: squared residual at which an image is solved, (B,).
    """

    residual: Tensor
    direction: Tensor
    enough: Tensor


@SOLVERS.register("cg-sense")
class CGSense(Solver[CGState]):
    """argmin ‖A x − y‖² + λ ‖x‖², by conjugate gradients from 0 (Pruessmann et al. 2001).

    Without λ, and run to the end, the pseudo-inverse; stopped early by the discrepancy principle or after
    ``steps``, a regularised one. Works with any linear operator.
    """

    Params: ClassVar[type[SolverParams]] = CGSenseParams
    params: CGSenseParams

    def start(self, task: Task) -> CGState:
        """Zero."""
        rhs = task.linear.adjoint(task.data.y)
        return CGState(torch.zeros_like(rhs), rhs, rhs, self.params.tolerance**2 * square(rhs))

    def step(self, task: Task, state: CGState, number: int) -> CGState:
        """One step of conjugate gradients; none where the equations are solved."""
        del number
        p, r = state.direction, state.residual
        curved = task.linear.normal(p) + self.params.regularization * p
        curvature, before = (p.conj() * curved).real.flatten(1).sum(1), square(r)
        going = (before > state.enough) & (curvature > 0)
        length = column(torch.where(going, before / curvature, 0), p)
        residual = r - length * curved
        ratio = column(torch.where(going, square(residual) / before, 0), p)
        return CGState(state.x + length * p, residual, residual + ratio * p, state.enough)
