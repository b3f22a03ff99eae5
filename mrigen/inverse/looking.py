"""How a solver looks through a teacher: at the whole image, or through further masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from mrigen.inverse.base import SolverParams
from mrigen.inverse.task import Task

Predict = Callable[[Tensor, float, int], Tensor]
"""Estimate of the clean image from a noisy one at noise level σ, in step number n."""


class LookingParams(SolverParams):
    """What the teacher is shown of a noisy image.

    Attributes:
        hide: ``nothing`` shows all of it (an ambient teacher is told so, although it never saw a whole
            image in training); ``fixed`` shows it through one further mask Ã per image, drawn as in
            training; ``fresh`` draws another Ã at every step. A teacher that was not trained with masks
            sees everything in any case.
    """

    hide: Literal["nothing", "fixed", "fresh"] = "nothing"


def looking(task: Task, params: LookingParams) -> Predict:
    """The teacher of a task as a function of noisy image, noise level and step.

    Raises:
        UsageError: the prior is no teacher, or its masks do not fit the measurements.
    """
    teacher = task.teacher
    if params.hide == "nothing" or not teacher.objective.shows_mask:
        return lambda x, sigma, _: teacher.denoise(x, task.levels(sigma))
    fixed = teacher.draw(task.operator, task.seeds)

    def through(x: Tensor, sigma: float, number: int) -> Tensor:
        fresh = params.hide == "fresh" and number > 0
        further = teacher.draw(task.operator, task.seeds, number) if fresh else fixed
        return teacher.through(x, task.levels(sigma), further)

    return through
