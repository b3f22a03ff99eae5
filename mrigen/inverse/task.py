"""What a solver is given: measurements, a prior, and a seed for every image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.inverse.prior import GeneratorPrior, Prior, TeacherPrior
from mrigen.operators.base import LinearOperator, Operator, linear
from mrigen.operators.measurements import Measurements


@dataclass(frozen=True, eq=False)
class Task:
    """A batch of inverse problems y = A x + σ ε.

    Everything random belongs to the seed of an image: image i does not depend on the images beside it.

    Attributes:
        data: measurements with their operators; σ = 0 where the noise level is unknown.
        seeds: an integer per image; posterior samples of one measurement differ in it.
        prior: what images look like, None for solvers that need none.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> task = mg.solvers.Task(mg.Measurements(A(A.zero_image() + 1), A), seeds=[0, 1])
        >>> task.misfit(A.zero_image() + 1)
        tensor([0., 0.])
    """

    data: Measurements
    seeds: list[int]
    prior: Prior | None = None

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.data):
            raise ValueError(f"{len(self.data)} measurements need as many seeds, not {len(self.seeds)}")

    @property
    def operator(self) -> Operator:
        """A."""
        return self.data.operator

    @property
    def linear(self) -> LinearOperator:
        """A, for solvers that need an adjoint.

        Raises:
            UsageError: it is not linear.
        """
        if not isinstance(self.operator, LinearOperator):
            raise UsageError(
                f"{type(self.operator).__name__} is not linear and has no adjoint; "
                "use solver latent or dps, which need none"
            )
        return linear(self.operator)

    @property
    def teacher(self) -> TeacherPrior:
        """The prior, which must be a teacher.

        Raises:
            UsageError: there is none, or it is a generator.
        """
        if not isinstance(self.prior, TeacherPrior):
            raise UsageError("this solver needs a teacher: give the model folder of one with --model")
        return self.prior

    @property
    def generator(self) -> GeneratorPrior:
        """The prior, which must be a one-step generator.

        Raises:
            UsageError: there is none, or it is a teacher.
        """
        if not isinstance(self.prior, GeneratorPrior):
            raise UsageError(
                "this solver needs a one-step generator: give the model folder of one with --model"
            )
        return self.prior

    def blank(self) -> Tensor:
        """Zero images (B, C, H, W) of the operator's kind."""
        one = self.operator.zero_image()
        return one.new_zeros(len(self.data), *one.shape[1:])

    def noise(self, *purpose: int | str) -> Tensor:
        """Standard normal images for a purpose, one per seed."""
        like = self.operator.zero_image()
        shape = (like.shape[1], like.shape[2], like.shape[3])
        drawn = seeds.seeded_noise(
            self.seeds, shape, *purpose, complex_valued=like.is_complex(), device=like.device
        )
        return drawn.to(like.dtype)

    def data_noise(self, *purpose: int | str) -> Tensor:
        """Standard normal noise of the measurements for a purpose, one draw per seed."""
        y = self.data.y
        drawn = seeds.seeded_noise(
            self.seeds, y.shape[1:], "data", *purpose, complex_valued=y.is_complex(), device=y.device
        )
        return drawn.to(y.dtype)

    def latents(self, start: int = 0) -> Tensor:
        """Standard normal latents (B, steps, C, H, W) of the generator."""
        return torch.stack([self.noise("latent", start, step) for step in range(self.generator.steps)], 1)

    def levels(self, sigma: float) -> Tensor:
        """One noise level for every image, (B,)."""
        return torch.full((len(self.data),), sigma, device=self.data.y.device)

    def misfit(self, x: Tensor) -> Tensor:
        """‖A x − y‖² per image, (B,)."""
        return square(self.operator.forward(x) - self.data.y)

    def noise_energy(self) -> Tensor:
        """E‖σ ε‖² per image (B,): σ² times the number of measured real components."""
        y = self.data.y
        ones = torch.ones(len(y), device=y.device)
        drawn = self.operator.noise(torch.zeros_like(y), ones, seeds.seeded_rng(0, "measured"))
        real = torch.view_as_real(drawn) if drawn.is_complex() else drawn
        return self.data.sigma**2 * (real != 0).flatten(1).sum(1)


def square(x: Tensor) -> Tensor:
    """‖x‖² of each sample of a batch, (B,)."""
    real = torch.view_as_real(x) if x.is_complex() else x
    return real.square().flatten(1).sum(1)


def column(values: Tensor, like: Tensor) -> Tensor:
    """(B,) to (B, 1, ...), to multiply what has the axes of ``like``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
