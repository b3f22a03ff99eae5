"""Moment matching: posterior samples that use the teacher's own uncertainty."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.inverse.annealed import AnnealedParams, AnnealedSolver, AnnealedState
from mrigen.inverse.base import SOLVERS, Count, SolverParams
from mrigen.inverse.task import Task, column
from mrigen.operators.solve import conjugate_gradient


class MomentMatchingParams(AnnealedParams):
    """Accuracy of the linear systems.

    Attributes:
        cg_steps: conjugate-gradient steps at most; each costs one gradient of the network.
    """

    cg_steps: Count = 3


@SOLVERS.register("mmps")
class MomentMatching(AnnealedSolver):
    """x̂ = m + V Aᵀ (σ² I + A V Aᵀ)⁻¹ (y − A m), m = E[x₀ | x_t], V = σ_t² ∂m/∂x_t; then a reverse step.

    Moment matching posterior sampling (Rozet et al. 2024). By Tweedie's second formula V is the covariance of
    x₀ given x_t, so that x̂ is E[x₀ | x_t, y] wherever x₀ given x_t is Gaussian. For Gaussian images and any
    linear A the samples then have the posterior's mean and covariance. Products with V are gradients of the
    network; a network whose Jacobian is not symmetric bears few conjugate-gradient steps only.
    """

    Params: ClassVar[type[SolverParams]] = MomentMatchingParams
    params: MomentMatchingParams
    differentiates: ClassVar[bool] = True

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The mean of x₀ given x_t and the data; nothing is moved afterwards."""
        A, y = task.linear, task.data.y
        with torch.enable_grad():
            noisy = state.noisy.detach().requires_grad_()
            mean = state.predict(noisy, sigma, number)

        def spread(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(mean, noisy, v, retain_graph=True)
            return sigma**2 * product

        def matrix(u: Tensor) -> Tensor:
            return column(task.data.sigma**2, u) * u + A.forward(spread(A.adjoint(u)))

        estimate = mean.detach()
        weights = conjugate_gradient(matrix, y - A.forward(estimate), self.params.cg_steps)
        x = estimate + spread(A.adjoint(weights))
        return x, torch.zeros_like(x)
