"""What posterior samplers share: a noise level that falls, an estimate of the clean image, a reverse step."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mrigen.diffusion.consistency import reverse_step
from mrigen.diffusion.noise import Karras
from mrigen.inverse.base import Count, Solver, SolverParams, State
from mrigen.inverse.looking import LookingParams, Predict, looking
from mrigen.inverse.task import Task


class AnnealedParams(LookingParams):
    """The reverse process.

    Attributes:
        steps: noise levels between σ_max and σ_min, one network evaluation each.
        grid: their spacing.
        ancestral: add fresh noise at every step, so that it is a draw of x_s given x_t and the estimate;
            without it the steps are Euler's and all randomness is in the first image.
    """

    steps: Count = 100
    grid: Karras = Karras()
    ancestral: bool = True


@dataclass
class AnnealedState(State):
    """A trajectory.

    Attributes:
        noisy: x_t.
        predict: the teacher.
    """

    noisy: Tensor
    predict: Predict


class AnnealedSolver(Solver[AnnealedState]):
    """Reverse diffusion with the data in every step, from pure noise at σ_max.

    The schedule decides when to stop: the estimate at the last level is the result.
    """

    Params: ClassVar[type[SolverParams]] = AnnealedParams
    params: AnnealedParams
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @property
    def steps(self) -> int:
        """Number of noise levels."""
        return self.params.steps

    def start(self, task: Task) -> AnnealedState:
        """Noise at σ_max."""
        predict = looking(task, self.params)
        return AnnealedState(task.blank(), task.noise() * self.params.grid.sigma_max, predict)

    @abstractmethod
    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The estimate of the clean image given x_t and the data, and a move of x_t after the step."""

    def step(self, task: Task, state: AnnealedState, number: int) -> AnnealedState:
        """From one noise level to the next."""
        high, low = self.params.grid.steps(self.params.steps)[number : number + 2]
        estimate, move = self.guided(task, state, high, number)
        if low == 0:
            return AnnealedState(estimate + move, estimate + move, state.predict)
        if self.params.ancestral:
            noise = task.noise("ancestral", number)
            noisy = reverse_step(state.noisy, estimate, task.levels(high), task.levels(low), noise)
        else:
            noisy = estimate + low / high * (state.noisy - estimate)
        return AnnealedState(estimate, noisy + move, state.predict)
