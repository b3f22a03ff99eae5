"""Latent optimisation through a generator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.inverse.base import (
    SOLVERS,
    Count,
    IterativeParams,
    NonNegative,
    Positive,
    Solver,
    SolverParams,
    State,
)
from mrigen.inverse.prior import GeneratorPrior
from mrigen.inverse.task import Task, column, square
from mrigen.operators.base import Operator


class LatentParams(IterativeParams):
    """Adam on the latent, and then on the network.

    Attributes:
        steps: Adam steps on the latent.
        lr: learning rate; DCD uses 0.05 for denoising and 0.1 for super-resolution.
        starts: random latents to start from; the one that fits best is kept.
        regularization: λ of λ ‖z‖²; σ² makes the result the most probable latent.
        tuning_steps: further steps that tune the generator's weights at the latent that was found
            (pivotal tuning, Roich et al. 2021). Every image of the batch gets a network of its own.
        tuning_lr: learning rate of the weights.
    """

    steps: Count = 1000
    lr: Positive = 0.05
    starts: Count = 1
    regularization: NonNegative = 0.0
    tuning_steps: Annotated[int, Field(ge=0)] = 0
    tuning_lr: Positive = 1e-4


@dataclass
class LatentState(State):
    """Latents and their optimiser.

    Attributes:
        z: a batch of latents for every start.
        optimizer: of the latents.
        further: Ã of generators that see their latents through it.
        best: the start that fits best, (B,).
        tuned: a network and its optimiser for every image; empty before the tuning.
    """

    z: list[Tensor]
    optimizer: torch.optim.Adam
    further: Operator | None
    best: Tensor
    tuned: list[tuple[GeneratorPrior, torch.optim.Adam]] = field(default_factory=list)


@SOLVERS.register("latent")
class Latent(Solver[LatentState]):
    """x = G(z), z = argmin ‖A(G(z)) − y‖² + λ ‖z‖² (DCD, eq. 13, section 4.6 and appendix I).

    Needs no adjoint: A may be any differentiable operator.
    """

    Params: ClassVar[type[SolverParams]] = LatentParams
    params: LatentParams
    needs: ClassVar[frozenset[str]] = frozenset({"generator"})
    differentiates: ClassVar[bool] = True

    @property
    def steps(self) -> int:
        """Steps on the latent and on the weights."""
        return self.params.steps + self.params.tuning_steps

    def start(self, task: Task) -> LatentState:
        """Random latents."""
        z = [task.latents(number).requires_grad_() for number in range(self.params.starts)]
        further = task.generator.draw_further(task.operator, task.seeds)
        optimizer = torch.optim.Adam(z, lr=self.params.lr)
        best = torch.zeros(len(task.data), dtype=torch.int64, device=z[0].device)
        return LatentState(task.blank(), z, optimizer, further, best)

    @torch.enable_grad()
    def step(self, task: Task, state: LatentState, number: int) -> LatentState:
        """One step of Adam."""
        if number >= self.params.steps:
            return self._tune(task, state)
        state.optimizer.zero_grad()
        images, misfits = [], []
        for z in state.z:
            x = task.generator.generate(z, state.further)
            misfit = task.misfit(x)
            (misfit + self.params.regularization * square(z)).sum().backward()
            images.append(x.detach())
            misfits.append(misfit.detach())
        state.optimizer.step()
        state.best = torch.stack(misfits).argmin(0)
        state.x = _chosen(images, state.best)
        return state

    def _tune(self, task: Task, state: LatentState) -> LatentState:
        if not state.tuned:
            copies = [task.generator.copy() for _ in range(len(task.data))]
            rate = self.params.tuning_lr
            state.tuned = [(g, torch.optim.Adam(g.network.parameters(), lr=rate)) for g in copies]
        pivots = _chosen([z.detach() for z in state.z], state.best)
        images = []
        for index, (generator, optimizer) in enumerate(state.tuned):
            optimizer.zero_grad()
            further = None if state.further is None else state.further.select(index)
            x = generator.generate(pivots[index : index + 1], further)
            y = task.data.y[index : index + 1]
            square(task.operator.select(index).forward(x) - y).sum().backward()
            optimizer.step()
            images.append(x.detach())
        state.x = torch.cat(images)
        return state


def _chosen(batches: list[Tensor], best: Tensor) -> Tensor:
    """From several batches (B, ...), the image of each that ``best`` (B,) names."""
    best_latents = batches[0]
    for number, batch in enumerate(batches[1:], 1):
        best_latents = torch.where(column(best == number, batch), batch, best_latents)
    return best_latents
