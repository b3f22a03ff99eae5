"""Annealed Langevin dynamics with the data's likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mrigen.diffusion.schedules import Karras
from mrigen.inverse.base import (
    SOLVERS,
    Count,
    MaskingParams,
    Positive,
    Predict,
    Solver,
    SolverParams,
    State,
    masked_denoiser,
)
from mrigen.inverse.task import Task, column


class LangevinParams(MaskingParams):
    """The chain.

    Attributes:
        levels: noise levels.
        grid: their spacing.
        inner: Langevin steps at each of them.
        step_size: ε; a step has the length ε β² at level β.
    """

    levels: Count = 40
    grid: Karras = Karras(sigma_min=0.01, sigma_max=10.0, rho=3.0)
    inner: Count = 5
    step_size: Positive = 0.2


@dataclass
class ChainState(State):
    """A Langevin chain.

    Attributes:
        chain: its position.
        predict: the teacher.
    """

    chain: Tensor
    predict: Predict


@SOLVERS.register("langevin")
class Langevin(Solver[ChainState]):
    """x ← x + η (∇ log p_β(x) + Aᴴ(y − A x) / (σ² + β²)) + √(2η) ε, η = ε₀ β², with falling β.

    Jalal et al. 2021 (CSGM-MRI), eq. 5, where ∇ log p_β(x) = (E[x₀ | x] − x) / β². At a fixed level and
    for small steps the chain draws from p_β(x) N(y; A x, (σ² + β²) I). The result is the denoised end of
    the chain.
    """

    Params: ClassVar[type[SolverParams]] = LangevinParams
    params: LangevinParams
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @property
    def steps(self) -> int:
        """Langevin steps at all levels."""
        return self.params.levels * self.params.inner

    def start(self, task: Task) -> ChainState:
        """Noise at the highest level."""
        chain = task.noise() * self.params.grid.sigma_max
        return ChainState(task.blank(), chain, masked_denoiser(task, self.params))

    def step(self, task: Task, state: ChainState, number: int) -> ChainState:
        """One Langevin step; after the last one the teacher's estimate of the end."""
        beta = self.params.grid.steps(self.params.levels)[number // self.params.inner]
        x, A = state.chain, task.linear
        clean = state.predict(x, beta, 2 * number)
        length = self.params.step_size * beta**2
        pull = A.adjoint(task.data.y - A.forward(x)) / column(task.data.sigma**2 + beta**2, x)
        moved = x + length * ((clean - x) / beta**2 + pull)
        moved = moved + math.sqrt(2 * length) * task.noise("langevin", number)
        if number + 1 == self.steps:
            clean = state.predict(moved, beta, 2 * number + 1)
        return ChainState(clean, moved, state.predict)
