"""Linear reconstructions: zero filling, root sum of squares, regularised least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

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
from mrigen.inverse.task import Task, column
from mrigen.operators import MultiCoilMRI
from mrigen.operators.base import LinearOperator
from mrigen.operators.solve import ConjugateGradient, Matrix, conjugate_gradient

# Where bright tissue is 1: standard deviations per component of differences of neighbouring pixels, for the
# first image and for the last, and of a pixel of the background.
FIRST_DIFFERENCE, DIFFERENCE, BACKGROUND = 0.1, 0.2, 0.02
NEIGHBOURS = 3  # side of the square over which the first image's energy is averaged


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
        regularization: λ, one for all pixels; the problem of ``sigpy.mri.app.SenseRecon`` and of BART's
            ``pics -l2``. 0 for none: the pseudo-inverse.
        smoothness: μ; 0 for none.
        tolerance: relative residual of the normal equations at which they count as solved.

    Where neither λ nor μ is given, both follow the noise level of the data, see ``CGSense``.
    """

    steps: Count = 100
    discrepancy: Positive | None = None
    regularization: NonNegative | None = None
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
    """argmin ‖A x − y‖² + Σ_i λ_i |x_i|² + μ ‖∇x‖², by conjugate gradients from 0 (Pruessmann et al. 2001).

    ∇ are the differences of neighbouring pixels, periodic. By default x is the posterior mean of Gaussian
    images (Tikhonov) whose differences have a standard deviation of 0.2 per component, and whose pixels have
    the variance m_i² of a first image of the same data (as Tsao, Boesiger & Pruessmann, "k-t BLAST and k-t
    SENSE", MRM 2003, take it from training data): μ = σ² / 0.2², λ_i = 2 σ² / (m_i² + 0.02²). The first
    image has μ = σ² / 0.1² and λ = 0, and m_i² is its energy, averaged over 3 × 3 pixels. Real images have no
    dark background: they are the first image. Exact data, σ = 0, are met exactly. Works with any linear
    operator.
    """

    Params: ClassVar[type[SolverParams]] = CGSenseParams
    params: CGSenseParams

    def start(self, task: Task) -> CGState:
        """Zero, and for the default weights the first image."""
        rhs, p = task.linear.adjoint(task.data.y), self.params
        if p.regularization is not None or p.smoothness is not None:
            matrix = _penalised(task, rhs.new_tensor(p.regularization or 0.0), p.smoothness or 0.0)
        else:
            variance = task.data.sigma**2
            matrix = _penalised(task, rhs.new_zeros(()), variance / FIRST_DIFFERENCE**2)
            if rhs.is_complex():
                first = conjugate_gradient(matrix, rhs, p.steps, p.tolerance)
                energy = _neighbourhood(first.abs().square())
                weight = 2 * column(variance, energy) / (energy + BACKGROUND**2)
                matrix = _penalised(task, weight, variance / DIFFERENCE**2)
        iterate = ConjugateGradient.start(rhs, p.tolerance)
        return CGState(iterate.x, matrix, iterate)

    def step(self, task: Task, state: CGState, number: int) -> CGState:
        """One step of conjugate gradients; none where the equations are solved."""
        del task, number
        iterate = state.iterate.step(state.matrix)
        return CGState(iterate.x, state.matrix, iterate)

    def solved(self, state: CGState) -> Tensor:
        """Where the residual of the normal equations is small enough."""
        return ~state.iterate.active


def _penalised(task: Task, weight: Tensor, smoothness: Tensor | float) -> Matrix:
    """AᴴA + λ + μ ∇ᴴ∇, with λ a number or of every pixel and μ of every image."""
    A = task.linear
    mu = torch.as_tensor(smoothness, device=task.data.sigma.device).expand(len(task.data))

    def matrix(x: Tensor) -> Tensor:
        curved = A.normal(x)
        if weight.any():
            curved = curved + weight * x
        if mu.any():
            curved = curved + column(mu, x).to(x) * _curvature(x)
        return curved

    return matrix


def _curvature(x: Tensor) -> Tensor:
    """∇ᴴ∇ x of images (B, C, H, W)."""
    return 4 * x - x.roll(1, -2) - x.roll(-1, -2) - x.roll(1, -1) - x.roll(-1, -1)


def _neighbourhood(energy: Tensor) -> Tensor:
    """Averages over squares of pixels, periodic."""
    reach = NEIGHBOURS // 2
    padded = nn.functional.pad(energy, (reach, reach, reach, reach), mode="circular")
    return nn.functional.avg_pool2d(padded, NEIGHBOURS, 1)


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
