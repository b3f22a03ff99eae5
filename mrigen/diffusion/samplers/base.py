"""The loop that every sampler shares; a sampler is one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mrigen.diffusion.noise import Karras
from mrigen.registry import Params, Registry

SAMPLERS: Registry[Sampler] = Registry("sampler", "mrigen.diffusion.samplers")

Predict = Callable[[Tensor, float], Tensor]
"""Estimate of the clean signal from a noisy one (B, C, H, W) at noise level σ."""


class SamplerParams(Params):
    """Parameters that every sampler shares.

    Attributes:
        steps: noise levels between σ_max and σ_min.
        grid: their spacing.
    """

    steps: Annotated[int, Field(ge=1)] = 18
    grid: Karras = Karras()


class Sampler(ABC):
    """Solve the reverse process from σ_max to 0.

    For an ambient teacher ``predict`` looks through one Ã that stays fixed along the trajectory
    (the fixed-mask sampler of Ambient Diffusion, section 4): the objective's ``predict`` with that Ã.
    """

    Params: ClassVar[type[SamplerParams]] = SamplerParams

    def __init__(self, params: SamplerParams) -> None:
        self.params = params

    @abstractmethod
    def step(self, predict: Predict, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """From x at noise level σ to the next level."""

    @abstractmethod
    def evaluations(self) -> int:
        """Network evaluations of one trajectory."""

    def __call__(self, predict: Predict, latent: Tensor) -> Tensor:
        """Sample from standard normal latents (B, C, H, W), real or complex."""
        levels = self.params.grid.steps(self.params.steps)
        x = latent * levels[0]
        for sigma, sigma_next in pairwise(levels):
            x = self.step(predict, x, sigma, sigma_next)
        return x

    @classmethod
    def example(cls) -> Sampler:
        """Default parameters."""
        return cls(cls.Params())
