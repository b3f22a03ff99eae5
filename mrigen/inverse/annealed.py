"""Posterior sampling by reverse diffusion with the data in every step."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.diffusion.consistency import reverse_step
from mrigen.diffusion.schedules import Karras
from mrigen.inverse.base import (
    SOLVERS,
    Count,
    MaskingParams,
    NonNegative,
    Positive,
    Predict,
    Solver,
    SolverParams,
    State,
    masked_denoiser,
)
from mrigen.inverse.linear import data_consistent
from mrigen.inverse.prior import gradient
from mrigen.inverse.task import Task, column
from mrigen.operators.solve import Matrix, conjugate_gradient


class AnnealedParams(MaskingParams):
    """The reverse process.

    Attributes:
        steps: noise levels between σ_max and σ_min, one network evaluation each.
        grid: their spacing.
        ancestral: add fresh noise at every step, so that it is a draw of x_s given x_t and the estimate;
            without it the steps are Euler's and all randomness is in the first image.
    """

    steps: Count = 100
    grid: Karras = Karras()
    ancestral: bool = True


@dataclass
class AnnealedState(State):
    """A trajectory.

    Attributes:
        noisy: x_t.
        predict: the teacher.
    """

    noisy: Tensor
    predict: Predict


class AnnealedSolver(Solver[AnnealedState]):
    """Reverse diffusion with the data in every step, from pure noise at σ_max.

    The schedule decides when to stop: the estimate at the last level is the result.
    """

    Params: ClassVar[type[SolverParams]] = AnnealedParams
    params: AnnealedParams
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @property
    def steps(self) -> int:
        """Number of noise levels."""
        return self.params.steps

    def start(self, task: Task) -> AnnealedState:
        """Noise at σ_max."""
        predict = masked_denoiser(task, self.params)
        return AnnealedState(task.blank(), task.noise() * self.params.grid.sigma_max, predict)

    @abstractmethod
    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The estimate of the clean image given x_t and the data, and a move of x_t after the step."""

    def step(self, task: Task, state: AnnealedState, number: int) -> AnnealedState:
        """From one noise level to the next."""
        high, low = self.params.grid.steps(self.params.steps)[number : number + 2]
        estimate, move = self.guided(task, state, high, number)
        if low == 0:
            return AnnealedState(estimate + move, estimate + move, state.predict)
        if self.params.ancestral:
            noise = task.noise("ancestral", number)
            noisy = reverse_step(state.noisy, estimate, task.levels(high), task.levels(low), noise)
        else:
            noisy = estimate + low / high * (state.noisy - estimate)
        return AnnealedState(estimate, noisy + move, state.predict)


class DPSParams(AnnealedParams):
    """Strength of the data.

    Attributes:
        guidance: ζ.
        hide: what an ambient teacher is not shown; nothing here, ``ambient-dps`` hides.
    """

    hide: Literal["nothing", "fixed", "fresh"] = "nothing"
    guidance: Positive = 1.0


@SOLVERS.register("dps")
class DPS(AnnealedSolver):
    """x' = (reverse step of x) − ζ ∇_x ‖A x̂(x) − y‖² / ‖A x̂(x) − y‖ with x̂(x) = E[x₀ | x].

    Chung et al. 2023, algorithm 1, with ζ_i = ζ / ‖A x̂ − y‖ as they use it. Needs no adjoint: A may be
    nonlinear.
    """

    Params: ClassVar[type[SolverParams]] = DPSParams
    params: DPSParams
    differentiates: ClassVar[bool] = True

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The teacher's estimate, and the gradient step."""
        with torch.enable_grad():
            noisy = state.noisy.detach().requires_grad_()
            estimate = state.predict(noisy, sigma, number)
            misfit = task.misfit(estimate)
            slope = gradient(misfit, noisy)
        norm = misfit.detach().sqrt().clamp(min=torch.finfo(misfit.dtype).tiny)
        return estimate.detach(), -self.params.guidance * slope / column(norm, slope)


class AmbientDPSParams(DPSParams):
    """DPS with something to hide.

    Attributes:
        hide: ``fixed`` or ``fresh`` further masks.
    """

    hide: Literal["fixed", "fresh"] = "fixed"


@SOLVERS.register("ambient-dps")
class AmbientDPS(DPS):
    """DPS whose estimate is E[x₀ | Ã x_t, Ã], with an Ã of the training that stays fixed.

    Ambient Diffusion Posterior Sampling (Aali et al. 2025). The data may be measured by any A; Ã has nothing
    to do with it but the coils.
    """

    Params: ClassVar[type[SolverParams]] = AmbientDPSParams
    params: AmbientDPSParams


class DecomposedParams(AnnealedParams):
    """Trust in the teacher.

    Attributes:
        sigma_data: σ_d, spread of images about their mean.
        spread: s, uncertainty of the teacher's estimates that no low noise level takes away: of what further
            masks hide from it, and of a teacher that is not perfect.
        cg_steps: conjugate-gradient steps at most.
    """

    sigma_data: Positive = 0.5
    spread: NonNegative = 0.1
    cg_steps: Count = 10


@SOLVERS.register("dds")
class Decomposed(AnnealedSolver):
    """x̂ = argmin ‖A x − y‖² + (σ²/r²) ‖x − E[x₀ | x_t]‖², then a reverse step.

    Decomposed diffusion sampling (Chung, Lee & Ye 2024) with the weight that makes x̂ the posterior
    mean when x₀ given x_t has covariance r² I. r² = s² + σ_t² σ_d² / (σ_t² + σ_d²); with s = 0 that is the
    case for white images of variance σ_d². Costs no gradient of the network. With σ = 0 (noiseless or
    unknown) the data are met exactly.
    """

    Params: ClassVar[type[SolverParams]] = DecomposedParams
    params: DecomposedParams

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """The data-consistent estimate; nothing is moved afterwards."""
        clean = state.predict(state.noisy, sigma, number)
        p = self.params
        spread = p.spread**2 + 1 / (1 / sigma**2 + 1 / p.sigma_data**2)
        weight = task.data.sigma**2 / spread
        x = data_consistent(task.linear, task.data.y, clean, weight, p.cg_steps)
        return x, torch.zeros_like(x)


class MomentMatchingParams(AnnealedParams):
    """The covariance of x₀ given x_t, and the linear systems with it.

    Attributes:
        covariance: ``spectrum``, the variances of V = σ_t² ∂m/∂x_t in the Fourier domain, averaged over rings
            of equal frequency, for each channel or for real and imaginary parts; ``jacobian``, V itself.
        cg_steps: conjugate-gradient steps at most; with ``jacobian`` each costs one gradient of the network,
            and a network whose Jacobian is not symmetric bears few.
    """

    covariance: Literal["spectrum", "jacobian"] = "spectrum"
    cg_steps: Count = 10


@SOLVERS.register("mmps")
class MomentMatching(AnnealedSolver):
    """x̂ = m + V Aᵀ (σ² I + A V Aᵀ)⁻¹ (y − A m), m = E[x₀ | x_t], V = σ_t² ∂m/∂x_t; then a reverse step.

    Moment matching posterior sampling (Rozet et al. 2024). By Tweedie's second formula V is the covariance of
    x₀ given x_t, so that x̂ is E[x₀ | x_t, y] wherever x₀ given x_t is Gaussian. For Gaussian images and any
    linear A the samples then have the posterior's mean and, with many steps, its covariance.

    With ``covariance=spectrum`` V = Fᴴ diag(v) F, where v_k = σ_t² Σ conj(F u)_k (F Jᵀ u)_k / Σ |F u|²_k over
    a ring of frequencies for one random image u (Hutchinson's estimate): one gradient of the network a step,
    and a V that is symmetric and positive whatever the network is. x̂ is then not the mean but a draw of x₀
    given x_t and y (m and y are perturbed by N(0, V) and by noise before the solution), so that the spread
    does not depend on the number of steps either: exact for stationary Gaussian images.
    """

    Params: ClassVar[type[SolverParams]] = MomentMatchingParams
    params: MomentMatchingParams
    differentiates: ClassVar[bool] = True

    def guided(self, task: Task, state: AnnealedState, sigma: float, number: int) -> tuple[Tensor, Tensor]:
        """x₀ given x_t and the data, its mean or a draw; nothing is moved afterwards."""
        with torch.enable_grad():
            noisy = state.noisy.detach().requires_grad_()
            mean = state.predict(noisy, sigma, number)

        def spread(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(mean, noisy, v, retain_graph=True)
            return sigma**2 * product

        if self.params.covariance == "spectrum":
            probe = task.noise("probe", number)
            x = self._draw(task, mean.detach(), RingSpectrum.of(probe, spread(probe), sigma**2), number)
        else:
            x = self._mean(task, mean.detach(), spread)
        return x, torch.zeros_like(x)

    def _mean(self, task: Task, mean: Tensor, spread: Matrix) -> Tensor:
        """The formula with V as it is."""
        A = task.linear

        def matrix(u: Tensor) -> Tensor:
            return column(task.data.sigma**2, u) * u + A.forward(spread(A.adjoint(u)))

        weights = conjugate_gradient(matrix, task.data.y - A.forward(mean), self.params.cg_steps)
        return mean + spread(A.adjoint(weights))

    def _draw(self, task: Task, mean: Tensor, covariance: RingSpectrum, number: int) -> Tensor:
        """A solution for perturbed m and y, from (V^½ AᵀA V^½ + σ²) w = V^½ Aᵀ (y − A m); x = m + V^½ w."""
        A, y = task.linear, task.data.y
        if self.params.ancestral:
            mean = mean + covariance.root(task.noise("draw", number))
            y = y + column(task.data.sigma, y) * task.data_noise("draw", number)

        def matrix(w: Tensor) -> Tensor:
            return covariance.root(A.normal(covariance.root(w))) + column(task.data.sigma**2, w) * w

        rhs = covariance.root(A.adjoint(y - A.forward(mean)))
        return mean + covariance.root(conjugate_gradient(matrix, rhs, self.params.cg_steps))


@dataclass(frozen=True, eq=False)
class RingSpectrum:
    """Covariance Fᴴ diag(v) F of images whose variances are the same all over a ring of frequencies.

    Attributes:
        variances: v of the frequencies (B, P, H, W), DC in the centre, for each of P real planes: channels,
            or real and imaginary parts.
    """

    variances: Tensor

    @classmethod
    def of(cls, probe: Tensor, product: Tensor, largest: float) -> RingSpectrum:
        """Of V u for a random image u, in [1e-6, 1] of the largest variance that can be."""
        u, v = fourier.fft(_planes(probe)), fourier.fft(_planes(product))
        rings = fourier.radii(*probe.shape[-2:]).round().long().to(probe.device)

        def total(values: Tensor) -> Tensor:
            sums = values.new_zeros(*values.shape[:2], int(rings.max()) + 1)
            return sums.index_add(2, rings.flatten(), values.flatten(2))

        means = total((u.conj() * v).real) / total(u.abs().square())
        return cls(means.clamp(1e-6 * largest, largest)[..., rings])

    def root(self, x: Tensor) -> Tensor:
        """V^½ x."""
        filtered = fourier.ifft(self.variances.sqrt() * fourier.fft(_planes(x))).real
        return torch.complex(*filtered.chunk(2, 1)) if x.is_complex() else filtered


def _planes(x: Tensor) -> Tensor:
    """Channels of real images, or real and imaginary parts."""
    return torch.cat([x.real, x.imag], 1) if x.is_complex() else x
