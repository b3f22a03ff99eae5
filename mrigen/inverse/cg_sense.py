"""Regularised least squares by conjugate gradients."""

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
from mrigen.inverse.task import Task, column
from mrigen.operators.solve import ConjugateGradient, Matrix

DIFFERENCE = 0.1  # of neighbouring pixels per component, where bright tissue is 1


class CGSenseParams(IterativeParams):
    """Regularised least squares.

    Attributes:
        steps: conjugate-gradient steps at most.
        discrepancy: also stop by Morozov's principle, see ``IterativeParams``; by default the
            problem is solved.
        regularization: λ; the problem of ``sigpy.mri.app.SenseRecon`` and of BART's ``pics -l2``.
        smoothness: μ; None for σ² / 0.1² where λ is 0, and for 0 otherwise. σ is the noise level of the
            data, so that exact data are met exactly.
        tolerance: relative residual of the normal equations at which they count as solved.
    """

    steps: Count = 100
    discrepancy: Positive | None = None
    regularization: NonNegative = 0.0
    smoothness: NonNegative | None = None
    tolerance: Positive = 1e-5


@dataclass
class CGState(State):
    """Conjugate gradients.

    Attributes:
        matrix: AᴴA + λ + μ ∇ᴴ∇.
        iterate: of the normal equations.
    """

    matrix: Matrix
    iterate: ConjugateGradient


@SOLVERS.register("cg-sense")
class CGSense(Solver[CGState]):
    """argmin ‖A x − y‖² + λ ‖x‖² + μ ‖∇x‖², by conjugate gradients from 0 (Pruessmann et al. 2001).

    ∇ are the differences of neighbouring pixels, periodic. The default μ makes x the posterior mean of images
    whose differences are Gaussian with standard deviation 0.1 per component (Tikhonov). With λ = μ = 0 it
    is the pseudo-inverse. Works with any linear operator.
    """

    Params: ClassVar[type[SolverParams]] = CGSenseParams
    params: CGSenseParams

    def start(self, task: Task) -> CGState:
        """Zero."""
        A, weight = task.linear, self.params.regularization
        smoothness = self._smoothness(task)

        def matrix(x: Tensor) -> Tensor:
            curved = A.normal(x)
            if weight:
                curved = curved + weight * x
            if smoothness.any():
                curved = curved + column(smoothness, x).to(x) * _curvature(x)
            return curved

        iterate = ConjugateGradient.start(A.adjoint(task.data.y), self.params.tolerance)
        return CGState(iterate.x, matrix, iterate)

    def step(self, task: Task, state: CGState, number: int) -> CGState:
        """One step of conjugate gradients; none where the equations are solved."""
        del task, number
        iterate = state.iterate.step(state.matrix)
        return CGState(iterate.x, state.matrix, iterate)

    def solved(self, state: CGState) -> Tensor:
        """Where the residual of the normal equations is small enough."""
        return ~state.iterate.active

    def _smoothness(self, task: Task) -> Tensor:
        """μ of each image, (B,)."""
        sigma, given = task.data.sigma, self.params.smoothness
        if given is not None or self.params.regularization:
            return torch.full_like(sigma, given or 0.0)
        return (sigma / DIFFERENCE) ** 2


def _curvature(x: Tensor) -> Tensor:
    """∇ᴴ∇ x of images (B, C, H, W)."""
    return 4 * x - x.roll(1, -2) - x.roll(-1, -2) - x.roll(1, -1) - x.roll(-1, -1)
