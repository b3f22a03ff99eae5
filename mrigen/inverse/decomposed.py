"""Decomposed diffusion sampling: exact data consistency of every estimate."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.inverse.annealed import AnnealedParams, AnnealedSolver, AnnealedState
from mrigen.inverse.base import SOLVERS, Count, NonNegative, Positive, SolverParams
from mrigen.inverse.least_squares import data_consistent
from mrigen.inverse.task import Task


class DecomposedParams(AnnealedParams):
    """Trust in the teacher.

    Attributes:
        sigma_data: σ_d, spread of images about their mean.
        spread: s, uncertainty of the teacher's estimates that no low noise level takes away: of what further
            masks hide from it, and of a teacher that is not perfect.
        cg_steps: conjugate-gradient steps at most.
    """

    sigma_data: Positive = 0.5
    spread: NonNegative = 0.1
    cg_steps: Count = 10


@SOLVERS.register("dds")
class Decomposed(AnnealedSolver):
    """x̂ = argmin ‖A x − y‖² + (σ²/r²) ‖x − E[x₀ | x_t]‖², then a reverse step.

    Decomposed diffusion sampling (Chung, Lee & Ye 2024) with the weight that makes x̂ the posterior
    mean when x₀ given x_t has covariance r² I. r² = s² + σ_t² σ_d² / (σ_t² + σ_d²); with s = 0 that is the
    case for white images of variance σ_d². Costs no gradient of the network. With σ = 0 (noiseless or
    unknown) the data are met exactly.
    """

    Params: ClassVar[type[SolverParams]] = DecomposedParams
    params: DecomposedParams

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The data-consistent estimate; nothing is moved afterwards."""
        clean = state.predict(state.noisy, sigma, number)
        p = self.params
        spread = p.spread**2 + 1 / (1 / sigma**2 + 1 / p.sigma_data**2)
        weight = task.data.sigma**2 / spread
        x = data_consistent(task.linear, task.data.y, clean, weight, p.cg_steps)
        return x, torch.zeros_like(x)
