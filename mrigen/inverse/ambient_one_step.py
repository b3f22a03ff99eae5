"""What an ambient teacher says about the measurement itself."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mrigen.diffusion.schedules import per_sample
from mrigen.errors import UsageError
from mrigen.inverse.base import SOLVERS, Count, Positive, Solver, SolverParams, State
from mrigen.inverse.linear import data_consistent
from mrigen.inverse.prior import TeacherPrior
from mrigen.inverse.task import Task
from mrigen.operators.base import linear

LOWEST = 0.003  # of Ambient Diffusion's one-step restoration


class AmbientOneStepParams(SolverParams):
    """What the teacher is shown.

    Attributes:
        masks: 0 shows all that was measured, as Ambient Diffusion does; n averages over n further masks
            Ã ~ p(Ã | A), which hide a little of it as in training.
        sigma: lowest noise level that the teacher is shown; noise is added to data with less. None for
            0.003, as Ambient Diffusion has it, and for e^(P_mean − P_std) of its training where the teacher
            has EDM's form in hidden components too: at lower levels such a network gives back what it sees,
            missing pixels as zeros. A teacher of noisy data is shown √2 times their noise level at least:
            at the level itself its loss says nothing about what it sees.
        spread: s, standard deviation of the estimate's error per real component; the result is then
            argmin ‖A x − y‖² + (σ²/s²) ‖x − E[x₀ | y]‖², which gives back what was measured and the
            network smoothed away. None for the estimate itself.
        cg_steps: conjugate-gradient steps of that at most.
    """

    masks: Annotated[int, Field(ge=0)] = 0
    sigma: Positive | None = None
    spread: Positive | None = None
    cg_steps: Count = 15


@SOLVERS.register("ambient-one-step")
class AmbientOneStep(Solver[State]):
    """E[x₀ | Ã(x₀ + σ ε), Ã] with the measurement in the place of Ã(x₀ + σ ε): one network evaluation.

    Ambient Diffusion (Daras et al. 2023), section 5.1. The network sees Aᴴ y and the mask of A, at the
    measurement's own noise level, or at the lowest one that it was trained for enough.
    """

    Params: ClassVar[type[SolverParams]] = AmbientOneStepParams
    params: AmbientOneStepParams
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    def start(self, task: Task) -> State:
        """Nothing yet.

        Raises:
            UsageError: the teacher is not told what it sees.
        """
        if not task.teacher.objective.conditions_on_mask:
            raise UsageError(
                "solver ambient-one-step needs an ambient teacher, which is told what was measured; use dps"
            )
        return State(task.blank())

    def step(self, task: Task, state: State, number: int) -> State:
        """One look, or the mean of several."""
        del state, number
        teacher = task.teacher
        looks = [self._look(task, teacher, mask) for mask in range(self.params.masks) or (None,)]
        estimate = sum(looks[1:], looks[0]) / len(looks)
        if self.params.spread is not None:
            weight = (task.data.sigma / self.params.spread) ** 2
            estimate = data_consistent(task.linear, task.data.y, estimate, weight, self.params.cg_steps)
        return State(estimate)

    def _look(self, task: Task, teacher: TeacherPrior, mask: int | None) -> Tensor:
        A = task.linear
        further = A if mask is None else linear(teacher.mask_further(A, task.seeds, mask))
        own = task.data.sigma
        sigma = own.clamp(min=self.params.sigma or _lowest(teacher))
        if self.params.sigma is None and teacher.objective.floor > 0:
            sigma = sigma.maximum(math.sqrt(2) * own)
        missing = (sigma**2 - own**2).sqrt()
        added = per_sample(missing) * task.noise("look")
        network_input = further.adjoint(task.data.y) + further.normal(added)
        return teacher.denoiser(network_input, sigma, further)


def _lowest(teacher: TeacherPrior) -> float:
    """The lowest level at which a teacher fills in what is missing."""
    params = teacher.objective.params
    if getattr(params, "pseudo_inverse", None) is not None:
        return LOWEST
    noise = params.noise
    return math.exp(noise.p_mean - noise.p_std)
