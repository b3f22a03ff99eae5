"""The loop that every solver shares; a solver is one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.inverse.task import Task, column, square
from mrigen.progress import Advance
from mrigen.registry import Params, Registry

SOLVERS: Registry[Solver] = Registry("solver", "mrigen.inverse", "mrigen.inverse.Solver")  # type: ignore[type-arg]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Predict = Callable[[Tensor, float, int], Tensor]
"""Estimate of the clean image from a noisy one at noise level σ, in step number n."""


class SolverParams(Params):
    """What every solver takes; solvers in one step need nothing.

    Examples:
        >>> import mrigen as mg
        >>> mg.solvers.SolverParams().model_dump()
        {}
    """


class IterativeParams(SolverParams):
    """Parameters of solvers that approach the data step by step and fit their noise in the end.

    Attributes:
        steps: at most so many.
        discrepancy: τ of Morozov's discrepancy principle: an image is finished at the first step with
            ‖A x − y‖² ≤ τ² E‖σ ε‖²; None to run all steps. Nothing stops where σ is unknown.
    """

    steps: Count = 100
    discrepancy: Positive | None = 1.0


@dataclass
class State:
    """State of a solver between two steps.

    Attributes:
        x: the estimate so far, (B, C, H, W).

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> task = mg.solvers.Task(mg.Measurements(A(A.zero_image() + 1), A), [0, 1])
        >>> mg.solvers.SOLVERS.build({"name": "cg-sense"}).start(task).x.shape
        torch.Size([2, 1, 12, 9])
    """

    x: Tensor


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of a solver for a batch.

    Attributes:
        image: estimates, (B, C, H, W).
        steps: steps that each image took, (B,).
        misfit: ‖A x − y‖ / ‖y‖ of each, (B,).

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> data = mg.Measurements(A(A.zero_image() + 1), A)
        >>> solution = mg.solvers.SOLVERS.build({"name": "cg-sense"}).solve(mg.solvers.Task(data, [0, 1]))
        >>> solution.image.shape, bool((solution.misfit < 0.1).all())
        (torch.Size([2, 1, 12, 9]), True)
    """

    image: Tensor
    steps: Tensor
    misfit: Tensor


S = TypeVar("S", bound=State)


class Solver(ABC, Generic[S]):
    """From measurements to images.

    Attributes:
        needs: kinds of models of which it needs one: ``teacher``, ``generator``; empty for none.
        differentiates: whether it needs gradients of the network, which take far more memory.

    Examples:
        >>> import mrigen as mg
        >>> mg.solvers.SOLVERS["dds"].needs
        frozenset({'teacher'})
        >>> mg.solvers.SOLVERS.build({"name": "cg-sense", "steps": 5}).steps
        5
    """

    Params: ClassVar[type[SolverParams]] = SolverParams
    needs: ClassVar[frozenset[str]] = frozenset()
    differentiates: ClassVar[bool] = False

    def __init__(self, params: SolverParams) -> None:
        self.params = params

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.params.steps if isinstance(self.params, IterativeParams) else 1

    @abstractmethod
    def start(self, task: Task) -> S:
        """The state before the first step."""

    @abstractmethod
    def step(self, task: Task, state: S, number: int) -> S:
        """One step; ``number`` counts from 0."""

    def solved(self, state: S) -> Tensor | None:
        """Images that no further step changes, bool (B,); None where a solver does not know."""
        del state
        return None

    def compared(self, state: S) -> Tensor:
        """The images that must fit the data to their noise for a solver to be done."""
        return state.x

    @torch.no_grad()
    def solve(self, task: Task, advance: Advance | None = None) -> Solution:
        """Run the steps; an image stays as it is once it is solved or fits the data to their noise.

        Args:
            task: measurements, prior and seeds.
            advance: told of every step.

        Raises:
            UsageError: the solver cannot work with this operator or prior.
        """
        state = self.start(task)
        goal = self._goal(task)
        image, taken = state.x, torch.zeros(len(task.data), dtype=torch.int64, device=state.x.device)
        active = torch.ones_like(taken, dtype=torch.bool)
        for number in range(self.steps):
            state = self.step(task, state, number)
            image = torch.where(column(active, image), state.x, image)
            taken += active
            solved = self.solved(state)
            if solved is not None:
                active = active & ~solved
            if goal is not None:
                active = active & (task.misfit(self.compared(state)) > goal)
            if not active.any():
                if advance is not None:
                    advance(self.steps - number)
                break
            if advance is not None:
                advance(1)
        return Solution(image, taken, self._misfit(task, image))

    def _goal(self, task: Task) -> Tensor | None:
        """Squared residual at which an image is finished, (B,); None where nothing stops early."""
        tau = self.params.discrepancy if isinstance(self.params, IterativeParams) else None
        if tau is None or not (task.data.sigma > 0).any():
            return None
        return torch.where(task.data.sigma > 0, tau**2 * task.noise_energy(), -1)

    @staticmethod
    def _misfit(task: Task, image: Tensor) -> Tensor:
        energy = square(task.data.y)
        return (task.misfit(image) / energy.clamp(min=torch.finfo(energy.dtype).tiny)).sqrt()

    @classmethod
    def example(cls) -> Solver[S]:
        """Default parameters."""
        return cls(cls.Params())


class MaskingParams(SolverParams):
    """What the teacher is shown of a noisy image.

    Attributes:
        hide: ``fresh`` shows it through a further mask Ã, drawn as in training, another one at every step;
            ``fixed`` through one Ã per image; ``nothing`` shows all of it and says so, although an
            ambient teacher never saw a whole image in training. A teacher that was not trained with masks
            sees everything in any case.
    """

    hide: Literal["nothing", "fixed", "fresh"] = "fresh"


def masked_denoiser(task: Task, params: MaskingParams) -> Predict:
    """The teacher of a task as a function of noisy image, noise level and step.

    Raises:
        UsageError: the prior is no teacher, or its masks do not fit the measurements.
    """
    teacher = task.teacher
    if params.hide == "nothing" or not teacher.objective.conditions_on_mask:
        return lambda x, sigma, _: teacher.denoise(x, task.levels(sigma))
    fixed = teacher.draw(task.operator, task.seeds)

    def through(x: Tensor, sigma: float, number: int) -> Tensor:
        fresh = params.hide == "fresh" and number > 0
        further = teacher.draw(task.operator, task.seeds, number) if fresh else fixed
        return teacher.through(x, task.levels(sigma), further)

    return through
