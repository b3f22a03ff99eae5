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
        hide: ``fresh`` shows it through a further mask Ã, drawn as in training, another one at every step;
            ``fixed`` through one Ã per image; ``nothing`` shows all of it and says so, although an
            ambient teacher never saw a whole image in training. A teacher that was not trained with masks
            sees everything in any case.
    """

    hide: Literal["nothing", "fixed", "fresh"] = "fresh"


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
