"""Plug-and-play: a proximal step, learned or of the image's own patches, and data consistency in turns."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from mrigen import fourier
from mrigen.denoiser import to_channels, to_complex
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


class SplittingParams(IterativeParams):
    """The splitting.

    Attributes:
        scheme: ``hqs``, half-quadratic splitting (DPIR, Zhang et al. 2021), or ``admm``, which adds the
            dual variable and solves the unsplit problem where the levels stay the same.
        sigma_max: first noise level of the proximal step.
        sigma_min: last one; the levels fall geometrically.
        noise: σ of the data where it is unknown; 0 meets the data exactly.
        weight: factor on the prior's weight σ²/τ².
        cg_steps: conjugate-gradient steps at most.
    """

    steps: Count = 30
    scheme: Literal["hqs", "admm"] = "hqs"
    sigma_max: Positive = 1.0
    sigma_min: Positive = 0.02
    noise: Annotated[float, Field(ge=0)] = 0.0
    weight: Positive = 1.0
    cg_steps: Count = 20


class PlugAndPlayParams(MaskingParams, SplittingParams):
    """The splitting, and what a generator's projection takes.

    Attributes:
        latent_steps: Adam steps by which a generator's latent follows the image in each step.
        lr: learning rate of these steps.
    """

    latent_steps: Count = 20
    lr: Positive = 0.05


class NonLocalMeansParams(SplittingParams):
    """The splitting and the means.

    Attributes:
        patch: pixels along a side of the patches that are compared, an odd number.
        radius: of the window of pixels that are averaged, 2 r + 1 along a side.
        strength: h / τ, of the decay of the weights.
        smoothing: standard deviation in pixels of the Gaussian by which the phase of complex images is
            taken out before patches are compared; None to compare them with their phase.
    """

    steps: Count = 20
    sigma_max: Positive = 0.3
    noise: Annotated[float, Field(ge=0)] = 0.01
    weight: Positive = 0.3
    patch: Count = 3
    radius: Count = 6
    strength: Positive = 1.0
    smoothing: Positive | None = 4.0

    @field_validator("patch")
    @classmethod
    def _is_odd(cls, patch: int) -> int:
        if patch % 2 == 0:
            raise ValueError("must be odd, for patches have a pixel in the middle")
        return patch


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


class Splitting(Solver[SplitState]):
    """x = argmin ‖A x − y‖² + w (σ²/τ²) ‖x − (v − u)‖²;  v = prox_τ(x + u);  u = u + x − v (ADMM only)."""

    params: SplittingParams

    @abstractmethod
    def proximal(self, task: Task) -> Predict:
        """The proximal step of images of a task."""

    def start(self, task: Task) -> SplitState:
        """The image of least norm that fits the data."""
        blank, proximal = task.blank(), self.proximal(task)
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


@SOLVERS.register("pnp")
class PlugAndPlay(Splitting):
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

    def proximal(self, task: Task) -> Predict:
        """A teacher's denoiser, or the projection onto a generator's range."""
        if isinstance(task.prior, GeneratorPrior):
            return _Projection(task, self.params)
        return masked_denoiser(task, self.params)


@SOLVERS.register("non-local-means")
class NonLocalMeans(Splitting):
    """x = argmin ‖A x − y‖² + w (σ²/τ²) ‖x − v‖², v = means of pixels of x whose neighbourhoods are alike.

    Plug-and-play without a model: the prior are the image's own patches. v_i = Σ_j w_ij x_j / Σ_j w_ij with
    w_ij = exp(−max(d²_ij − 2 τ², 0) / h²), d² the mean squared difference of the patches around i and j per
    real component (Buades, Coll & Morel 2005). Complex images are compared with the phase of a smoothed copy
    taken out, so that tissue is alike wherever it lies.
    """

    Params: ClassVar[type[SolverParams]] = NonLocalMeansParams
    params: NonLocalMeansParams

    def proximal(self, task: Task) -> Predict:
        """Non-local means at level τ."""
        del task
        p = self.params

        def means(x: Tensor, tau: float, number: int) -> Tensor:
            del number
            if not x.is_complex() or p.smoothing is None:
                return non_local_means(x, tau, p.patch, p.radius, p.strength)
            phase = torch.exp(1j * _smoothed(x, p.smoothing).angle())
            return phase * non_local_means(x * phase.conj(), tau, p.patch, p.radius, p.strength)

        return means


def non_local_means(
    x: Tensor, sigma: float, patch: int = 3, radius: int = 6, strength: float = 1.0
) -> Tensor:
    """Means over pixels whose neighbourhoods are alike, (B, C, H, W); see ``NonLocalMeans``.

    Args:
        x: real or complex images with noise of standard deviation σ in every real component.
        sigma: σ.
        patch: pixels along a side of the compared patches, odd.
        radius: of the window that is searched.
        strength: h / σ.

    Examples:
        >>> import torch
        >>> from mrigen.inverse.plug_and_play import non_local_means
        >>> steps = torch.tensor([0.0, 1.0]).repeat_interleave(8).expand(1, 1, 16, 16)
        >>> noisy = steps + 0.1 * torch.randn(steps.shape, generator=torch.Generator().manual_seed(0))
        >>> before, after = (float((x - steps).square().mean()) for x in (noisy, non_local_means(noisy, 0.1)))
        >>> after < 0.2 * before
        True
    """
    parts = to_channels(x)
    height, width = parts.shape[-2:]
    reach = min(radius, height - 1, width - 1)
    around = functional.pad(parts, (reach,) * 4, mode="reflect")
    total, weights = torch.zeros_like(parts), torch.zeros_like(parts[:, :1])
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            other = around[..., down : down + height, right : right + width]
            apart = (parts - other).square().mean(1, keepdim=True)
            apart = functional.avg_pool2d(apart, patch, 1, patch // 2, count_include_pad=False)
            weight = ((2 * sigma**2 - apart).clamp_(max=0) / (strength * sigma) ** 2).exp_()
            total.addcmul_(weight, other)
            weights += weight
    total /= weights
    return to_complex(total) if x.is_complex() else total


def _smoothed(x: Tensor, deviation: float) -> Tensor:
    """Images (B, C, H, W) after a periodic Gaussian of a standard deviation in pixels."""
    rows, columns = (
        torch.exp(-2 * (torch.pi * deviation * (torch.arange(n, device=x.device) - n // 2) / n) ** 2)
        for n in x.shape[-2:]
    )
    return fourier.ifft(rows[:, None] * columns * fourier.fft(x))


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
