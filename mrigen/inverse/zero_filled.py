"""The adjoint."""

from __future__ import annotations

from mrigen.inverse.base import SOLVERS, Solver, State
from mrigen.inverse.task import Task


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
