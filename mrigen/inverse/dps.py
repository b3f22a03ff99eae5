"""Diffusion posterior sampling."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from mrigen.inverse.annealed import AnnealedParams, AnnealedSolver, AnnealedState
from mrigen.inverse.base import SOLVERS, Positive, SolverParams
from mrigen.inverse.prior import gradient
from mrigen.inverse.task import Task, column


class DPSParams(AnnealedParams):
    """Strength of the data.

    Attributes:
        guidance: ζ.
        hide: what an ambient teacher is not shown; nothing here, ``ambient-dps`` hides.
    """

    hide: Literal["nothing", "fixed", "fresh"] = "nothing"
    guidance: Positive = 1.0


@SOLVERS.register("dps")
class DPS(AnnealedSolver):
    """x' = (reverse step of x) − ζ ∇_x ‖A x̂(x) − y‖² / ‖A x̂(x) − y‖ with x̂(x) = E[x₀ | x].

    Chung et al. 2023, algorithm 1, with ζ_i = ζ / ‖A x̂ − y‖ as they use it. Needs no adjoint: A may be
    nonlinear.
    """

    Params: ClassVar[type[SolverParams]] = DPSParams
    params: DPSParams
    differentiates: ClassVar[bool] = True

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The teacher's estimate, and the gradient step."""
        with torch.enable_grad():
            noisy = state.noisy.detach().requires_grad_()
            estimate = state.predict(noisy, sigma, number)
            misfit = task.misfit(estimate)
            slope = gradient(misfit, noisy)
        norm = misfit.detach().sqrt().clamp(min=torch.finfo(misfit.dtype).tiny)
        return estimate.detach(), -self.params.guidance * slope / column(norm, slope)
