"""Root sum of squares of the coil images."""

from __future__ import annotations

import torch

from mrigen.errors import UsageError
from mrigen.inverse.base import SOLVERS, Solver, State
from mrigen.inverse.task import Task
from mrigen.operators import MultiCoilMRI, fourier


@SOLVERS.register("rss")
class RootSumOfSquares(Solver[State]):
    """√(Σ_c |Fᴴ y_c|²), which needs no maps and has no phase (Roemer et al. 1990; fastMRI's target)."""

    def start(self, task: Task) -> State:
        """Nothing yet.

        Raises:
            UsageError: these are no coils.
        """
        if not isinstance(task.operator, MultiCoilMRI):
            raise UsageError("solver rss combines coil images: it works with Cartesian k-space only")
        return State(task.blank())

    def step(self, task: Task, state: State, number: int) -> State:
        """The combination."""
        del state, number
        image = fourier.ifft(task.data.y).abs().square().sum(1, keepdim=True).sqrt()
        return State(torch.complex(image, torch.zeros_like(image)))
