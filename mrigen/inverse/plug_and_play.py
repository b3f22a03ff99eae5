"""Plug-and-play: a learned proximal step and exact data consistency in turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mrigen.inverse.base import (
    SOLVERS,
    Count,
    IterativeParams,
    MaskingParams,
    Positive,
    Predict,
    Solver,
    SolverParams,
    State,
    masked_denoiser,
)
from mrigen.inverse.linear import data_consistent
from mrigen.inverse.prior import GeneratorPrior
from mrigen.inverse.task import Task, square


class PlugAndPlayParams(MaskingParams, IterativeParams):
    """The splitting.

    Attributes:
        scheme: ``hqs``, half-quadratic splitting (DPIR, Zhang et al. 2021), or ``admm``, which adds the
            dual variable and solves the unsplit problem where the levels stay the same.
        sigma_max: first noise level of the proximal step.
        sigma_min: last one; the levels fall geometrically.
        noise: σ of the data where it is unknown; 0 meets the data exactly.
        weight: factor on the prior's weight σ²/τ².
        cg_steps: conjugate-gradient steps at most.
        latent_steps: Adam steps by which a generator's latent follows the image in each step.
        lr: learning rate of these steps.
    """

    steps: Count = 30
    scheme: Literal["hqs", "admm"] = "hqs"
    sigma_max: Positive = 1.0
    sigma_min: Positive = 0.02
    noise: Annotated[float, Field(ge=0)] = 0.0
    weight: Positive = 1.0
    cg_steps: Count = 20
    latent_steps: Count = 20
    lr: Positive = 0.05


@dataclass
class SplitState(State):
    """Both halves of the splitting.

    Attributes:
        prior: v, the prior's half.
        dual: u, 0 without a dual variable.
        proximal: v from an image, the noise level τ and the number of the step.
    """

    prior: Tensor
    dual: Tensor
    proximal: Predict


@SOLVERS.register("pnp")
class PlugAndPlay(Solver[SplitState]):
    """x = argmin ‖A x − y‖² + w (σ²/τ²) ‖x − (v − u)‖²;  v = prox_τ(x + u);  u = u + x − v (ADMM only).

    The proximal step of a teacher is its denoiser at level τ (Venkatakrishnan et al. 2013; for Gaussian
    images they are the same). That of a one-step generator is the projection onto its range,
    v = G(argmin_z ‖G(z) − (x + u)‖²), continued from the latent of the step before (Shah & Hegde 2018).
    The result is x, which fits the data and, unlike an image of the generator, may show what the
    generator cannot.
    """

    Params: ClassVar[type[SolverParams]] = PlugAndPlayParams
    params: PlugAndPlayParams
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "generator"})

    def start(self, task: Task) -> SplitState:
        """The image of least norm that fits the data."""
        blank = task.blank()
        proximal: Predict
        if isinstance(task.prior, GeneratorPrior):
            proximal = _Projection(task, self.params)
        else:
            proximal = masked_denoiser(task, self.params)
        first = data_consistent(
            task.linear, task.data.y, blank, torch.zeros_like(task.data.sigma), self.params.cg_steps
        )
        return SplitState(first, proximal(first, self._level(0), 0), torch.zeros_like(first), proximal)

    def step(self, task: Task, state: SplitState, number: int) -> SplitState:
        """Data, prior, dual."""
        p, tau = self.params, self._level(number)
        sigma = torch.where(task.data.sigma > 0, task.data.sigma, p.noise)
        weight = p.weight * sigma**2 / tau**2
        x = data_consistent(task.linear, task.data.y, state.prior - state.dual, weight, p.cg_steps)
        v = state.proximal(x + state.dual, tau, number + 1)
        u = state.dual
        if p.scheme == "admm":
            u = (u + x - v) * (self._level(number + 1) / tau) ** 2
        return SplitState(x, v, u, state.proximal)

    def compared(self, state: SplitState) -> Tensor:
        """The prior's half; the other one fits the data from the beginning."""
        return state.prior

    def _level(self, number: int) -> float:
        """τ of a step; the dual variable is scaled with its square."""
        p = self.params
        share = min(number / max(p.steps - 1, 1), 1.0)
        return float(p.sigma_max * (p.sigma_min / p.sigma_max) ** share)


@dataclass
class _Projection:
    """The projection onto a generator's range, warm from call to call."""

    task: Task
    params: PlugAndPlayParams
    z: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.generator = self.task.generator
        self.z = self.task.latents().requires_grad_()
        self.further = self.generator.draw_further(self.task.operator, self.task.seeds)
        self.optimizer = torch.optim.Adam([self.z], lr=self.params.lr)

    def __call__(self, image: Tensor, sigma: float, number: int) -> Tensor:
        """G(z) after a few Adam steps on ‖G(z) − image‖²; the level plays no part in a projection."""
        del sigma, number
        with torch.enable_grad():
            for _ in range(self.params.latent_steps):
                self.optimizer.zero_grad()
                square(self.generator.generate(self.z, self.further) - image).sum().backward()
                self.optimizer.step()
        return self.generator.generate(self.z, self.further)
