"""The loop that every sampler shares; a sampler is one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from mrigen.diffusion.schedules import Karras
from mrigen.errors import UsageError
from mrigen.registry import Params, Registry

SAMPLERS: Registry[Sampler] = Registry(
    "sampler", "mrigen.diffusion.samplers", "mrigen.diffusion.samplers.Sampler"
)

Predict = Callable[[Tensor, float], Tensor]
"""Estimate of the clean signal from a noisy one (B, C, H, W) at noise level σ."""


class Teacher(Protocol):
    """A teacher and the randomness of one batch of images, as samplers see them.

    For an ambient teacher ``predict`` looks through one Ã that stays fixed along the trajectory (the
    fixed-mask sampler of Ambient Diffusion, section 4). Everything random belongs to the seed of an image
    and the number of a step: image i does not depend on the images beside it.

    Attributes:
        floor: lowest noise level at which the teacher was trained.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> class Gaussian:  # images of independent standard normal pixels: E[x₀ | x] = x / (1 + σ²)
        ...     floor = 0.0
        ...
        ...     def predict(self, x, sigma):
        ...         return x / (1 + sigma**2)
        ...     def level(self, sigma):
        ...         return sigma
        >>> heun = mg.samplers.SAMPLERS.build({"name": "heun", "steps": 40})
        >>> z = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> bool((heun(Gaussian(), z).std() - 1).abs() < 0.05)
        True
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

    def masked(self, step: int, count: int) -> list[tuple[Predict, Tensor]]:
        """The same with the masks of Ã, bool (B, 1 or C, H, W), where Ã hides pixels."""
        ...


class SamplerParams(Params):
    """Parameters that every sampler shares.

    Attributes:
        steps: noise levels between σ_max and σ_min.
        grid: σ_max, σ_min and the spacing of the levels between them.
        stop: the trajectory ends at the last level of the grid that is not below this one, with the
            denoiser's estimate there (RSD, algorithm 3); None to go down to 0.
        clip: every estimate of the clean signal is clipped to [−clip, clip], real and imaginary part on
            their own; None for no clipping.
    """

    steps: Annotated[int, Field(ge=1)] = 18
    grid: Karras = Karras()
    stop: Annotated[float, Field(gt=0)] | None = None
    clip: Annotated[float, Field(gt=0)] | None = None


class Sampler(ABC):
    """A reverse process, solved from σ_max to 0.

    A step to level 0 is the denoiser's estimate, so that a trajectory which stops early is one on a grid
    without its lowest levels.

    Examples:
        >>> import mrigen as mg
        >>> heun = mg.samplers.SAMPLERS.build({"name": "heun", "steps": 4})
        >>> heun.evaluations(floor=0.0)  # two for each level but the last
        7
    """

    Params: ClassVar[type[SamplerParams]] = SamplerParams

    def __init__(self, params: SamplerParams) -> None:
        self.params = params

    @abstractmethod
    def step(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float, number: int) -> Tensor:
        """From x at noise level σ to the next level; ``number`` counts the steps."""

    @abstractmethod
    def cost(self, *, last: bool) -> int:
        """Network evaluations of a step, the last of which goes to level 0."""

    def stop(self, floor: float) -> float | None:
        """Where to stop with a teacher that was trained down to ``floor``; None for level 0."""
        del floor
        return self.params.stop

    def levels(self, floor: float) -> list[float]:
        """Noise levels that are wanted of a teacher that was trained down to ``floor``, the last one 0.

        Raises:
            UsageError: no level of the grid is as high as the one to stop at.
        """
        grid = self.params.grid.steps(self.params.steps)
        stop = self.stop(floor)
        return grid if stop is None else [*grid[: self._kept(grid, stop)], 0.0]

    def _kept(self, grid: list[float], stop: float) -> int:
        """Number of levels that are not below ``stop``.

        Raises:
            UsageError: none.
        """
        kept = sum(level >= stop for level in grid)
        if not kept:
            raise UsageError(
                f"sampler: the level to stop at, σ = {stop:g}, is above the highest level {grid[0]:g}; lower "
                "sampler.stop"
            )
        return kept

    def evaluations(self, floor: float) -> int:
        """Network evaluations of one trajectory, of a teacher trained down to ``floor``."""
        return self.spent(len(self.levels(floor)) - 1)

    def spent(self, steps: int) -> int:
        """Network evaluations of a trajectory of so many steps."""
        return self.cost(last=False) * (steps - 1) + self.cost(last=True)

    def early(self, floor: float, stops: Sequence[float]) -> dict[float, int]:
        """Those of ``stops`` that end a trajectory before its own end, and the steps that each takes.

        Of several stops with as many steps, the highest is there; the others would give the same images.
        """
        grid = self.levels(floor)[:-1]
        ends: dict[int, float] = {}
        for stop in sorted(stops):
            if stop <= grid[0]:
                ends[self._kept(grid, stop)] = stop
        return {stop: count for count, stop in ends.items() if count < len(grid)}

    def __call__(self, teacher: Teacher, latent: Tensor) -> Tensor:
        """Sample from standard normal latents (B, C, H, W), real or complex.

        The wanted levels are moved to the nearest ones of the teacher, as in EDM's algorithms.
        """
        return self.ladder(teacher, latent, [])[0]

    def ladder(self, teacher: Teacher, latent: Tensor, ends: Sequence[int]) -> list[Tensor]:
        """Images of trajectories that end after so many steps, and of the whole one, which they all share.

        Each of ``ends`` costs its last step alone, which goes to level 0.
        """
        if self.params.clip is not None:
            teacher = _Clipped(teacher, self.params.clip)
        levels = [teacher.level(sigma) if sigma else 0.0 for sigma in self.levels(teacher.floor)]
        x, stopped = latent * levels[0], {}
        for number, (sigma, sigma_next) in enumerate(pairwise(levels)):
            if number + 1 in ends:
                stopped[number + 1] = self.step(teacher, x, sigma, 0.0, number)
            x = self.step(teacher, x, sigma, sigma_next, number)
        return [*(stopped[end] for end in ends), x]

    @classmethod
    def example(cls) -> Sampler:
        """Default parameters."""
        return cls(cls.Params())


class _Clipped:
    """A teacher whose estimates are clipped."""

    def __init__(self, teacher: Teacher, clip: float) -> None:
        self._teacher, self._clip = teacher, clip
        self.floor, self.level, self.noise = teacher.floor, teacher.level, teacher.noise
        self.predict = self._clipped(teacher.predict)

    def others(self, step: int, count: int) -> list[Predict]:
        """The other estimates, clipped."""
        return [self._clipped(predict) for predict in self._teacher.others(step, count)]

    def masked(self, step: int, count: int) -> list[tuple[Predict, Tensor]]:
        """The same with their masks."""
        return [(self._clipped(predict), mask) for predict, mask in self._teacher.masked(step, count)]

    def _clipped(self, predict: Predict) -> Predict:
        def clipped(x: Tensor, sigma: float) -> Tensor:
            estimate = predict(x, sigma)
            if not estimate.is_complex():
                return estimate.clamp(-self._clip, self._clip)
            return torch.view_as_complex(torch.view_as_real(estimate).clamp(-self._clip, self._clip))

        return clipped
