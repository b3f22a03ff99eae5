"""The loop that every sampler shares; a sampler is one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, ClassVar, Protocol

from pydantic import Field
from torch import Tensor

from mrigen.diffusion.noise import Karras
from mrigen.registry import Params, Registry

SAMPLERS: Registry[Sampler] = Registry("sampler", "mrigen.diffusion.samplers")

Predict = Callable[[Tensor, float], Tensor]
"""Estimate of the clean signal from a noisy one (B, C, H, W) at noise level σ."""


class Teacher(Protocol):
    """A teacher and the randomness of one batch of images, as samplers see them.

    For an ambient teacher ``predict`` looks through one Ã that stays fixed along the trajectory (the
    fixed-mask sampler of Ambient Diffusion, section 4). Everything random belongs to the seed of an image
    and the number of a step: image i does not depend on the images beside it.

    Attributes:
        floor: lowest noise level at which the teacher was trained.
    """

    floor: float

    def predict(self, x: Tensor, sigma: float) -> Tensor:
        """Estimate of the clean signal from a noisy one (B, C, H, W) at noise level σ."""
        ...

    def level(self, sigma: float) -> float:
        """The noise level nearest to σ at which the teacher was trained."""
        ...

    def noise(self, step: int) -> Tensor:
        """Standard normal noise like the images, fresh for every step."""
        ...

    def others(self, step: int, count: int) -> list[Predict]:
        """``predict`` through ``count`` other Ã, fresh for every step."""
        ...


class SamplerParams(Params):
    """Parameters that every sampler shares.

    Attributes:
        steps: noise levels between σ_max and σ_min.
        grid: their spacing.
    """

    steps: Annotated[int, Field(ge=1)] = 18
    grid: Karras = Karras()


class Sampler(ABC):
    """Solve the reverse process from σ_max to 0."""

    Params: ClassVar[type[SamplerParams]] = SamplerParams

    def __init__(self, params: SamplerParams) -> None:
        self.params = params

    @abstractmethod
    def step(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float, number: int) -> Tensor:
        """From x at noise level σ to the next level; ``number`` counts the steps."""

    @abstractmethod
    def evaluations(self, floor: float) -> int:
        """Network evaluations of one trajectory, of a teacher trained down to ``floor``."""

    def levels(self, floor: float) -> list[float]:
        """Noise levels that are wanted, the last one 0."""
        del floor
        return self.params.grid.steps(self.params.steps)

    def __call__(self, teacher: Teacher, latent: Tensor) -> Tensor:
        """Sample from standard normal latents (B, C, H, W), real or complex.

        The wanted levels are moved to the nearest ones of the teacher, as in EDM's algorithms.
        """
        levels = [teacher.level(sigma) if sigma else 0.0 for sigma in self.levels(teacher.floor)]
        x = latent * levels[0]
        for number, (sigma, sigma_next) in enumerate(pairwise(levels)):
            x = self.step(teacher, x, sigma, sigma_next, number)
        return x

    @classmethod
    def example(cls) -> Sampler:
        """Default parameters."""
        return cls(cls.Params())
