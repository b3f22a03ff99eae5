"""Linear reconstructions: zero filling, root sum of squares, regularised least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
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
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import LinearOperator
from mrigen.operators.solve import ConjugateGradient, Matrix, conjugate_gradient

DIFFERENCE = 0.1  # of neighbouring pixels per component, where bright tissue is 1


@SOLVERS.register("zero-filled")
class ZeroFilled(Solver[State]):
    """Aᴴ y, what was not measured taken for zero; the measurement itself where that is an image."""

    def start(self, task: Task) -> State:
        """Nothing yet."""
        return State(task.blank())

    def step(self, task: Task, state: State, number: int) -> State:
        """Aᴴ y."""
        del state, number
        return State(task.operator.as_image(task.data.y))


@SOLVERS.register("rss")
class RootSumOfSquares(Solver[State]):
    """√(Σ_c |Fᴴ y_c|²), which needs no maps and has no phase (Roemer et al. 1990; fastMRI's target)."""

    def start(self, task: Task) -> State:
        """Nothing yet.

        Raises:
            UsageError: these are no coils.
        """
        if not isinstance(task.operator, MultiCoilMRI):
            raise UsageError("solver rss combines coil images: it works with Cartesian k-space only")
        return State(task.blank())

    def step(self, task: Task, state: State, number: int) -> State:
        """The combination."""
        del state, number
        image = fourier.ifft(task.data.y).abs().square().sum(1, keepdim=True).sqrt()
        return State(torch.complex(image, torch.zeros_like(image)))


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
