"""Sparse reconstructions of whole batches, on the device of the measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor

from mrigen.inverse.base import SOLVERS, Count, NonNegative, S, Solver, SolverParams, State
from mrigen.inverse.task import Task

LEAST = 0.001  # of λ, where it follows the noise
STEEPEST = 8.0  # largest eigenvalue of ∇ᴴ∇ on a grid of two dimensions
BALANCE = 10.0  # dual step over λ, for images of about 1


class SparseParams(SolverParams):
    """A convex problem.

    Attributes:
        regularization: λ, for data scaled as mrigen prepares them (bright tissue is about 1); None for the
            solver's multiple of the noise level σ, and at least 0.001.
        iterations: number of them.
    """

    regularization: NonNegative | None = None
    iterations: Count = 200


class SparseSolver(Solver[S]):
    """argmin ½ ‖A x − y‖² + λ g(x) for any linear A.

    The step size comes from the operator's ``norm_bound``; images of a batch do not depend on one another.

    Attributes:
        relative: λ / σ where λ is not given.
    """

    Params: ClassVar[type[SolverParams]] = SparseParams
    params: SparseParams
    relative: ClassVar[float]

    @property
    def steps(self) -> int:
        """Number of iterations."""
        return self.params.iterations

    def weights(self, task: Task) -> Tensor:
        """λ of every image, (B, 1, 1, 1)."""
        fixed, sigma = self.params.regularization, task.data.sigma
        weight = (self.relative * sigma).clamp(min=LEAST) if fixed is None else torch.full_like(sigma, fixed)
        return weight.view(-1, 1, 1, 1)

    @staticmethod
    def bounds(task: Task) -> Tensor:
        """No less than the largest eigenvalue of AᴴA of every image, (B, 1, 1, 1)."""
        bound = task.linear.norm_bound().clamp(min=1e-12)
        return bound.expand(len(task.data)).view(-1, 1, 1, 1)


def shrinkage(size: Tensor, threshold: Tensor) -> Tensor:
    """The factors max(|x| − t, 0) / |x| of moduli |x|, 0 for 0: with them x is shrunk as by t ‖x‖₁."""
    return (size - threshold).clamp_(min=0) / size.clamp(min=torch.finfo(size.dtype).tiny)


@cache
def _analysis(size: int, wavelet: str) -> Tensor:
    """One level of the wavelet transform of signals of a length, (2 M, size), with WᵀW = I."""
    import pywt

    return torch.from_numpy(np.concatenate(pywt.dwt(np.eye(size), wavelet, mode="zero", axis=0))).float()


class WaveletShrinkage:
    """The proximal operator of t ‖W x‖₁, or the mean of those of several positions of the wavelets' grid.

    W is that of ``sigpy.linop.Wavelet``: PyWavelets' transform with zero extension, each level as a product
    with matrices from both sides.

    Args:
        shape: (H, W) of the images.
        wavelet: name of an orthogonal wavelet.
        shifts: number of positions of its grid: (0, 0), (1, 3), (2, 6) and so on.
        device: of the images.

    Examples:
        >>> import torch
        >>> from mrigen.inverse.sparse import WaveletShrinkage
        >>> x = torch.tensor([[5.0, 5.0], [1.0, 1.0]])[None, None]
        >>> WaveletShrinkage((2, 2), "haar")(x, torch.tensor(1.0))[0, 0].round()
        tensor([[4., 4.],
                [1., 1.]])
    """

    def __init__(
        self, shape: tuple[int, int], wavelet: str, shifts: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        import pywt

        matrices: list[tuple[Tensor, Tensor]] = []
        even = [size + size % 2 for size in shape]  # a zero before an odd number of pixels, as in sigpy
        levels, sizes, zeros = pywt.dwtn_max_level(even, wavelet), even, [size % 2 for size in shape]
        for _ in range(levels):
            rows, columns = (
                _analysis(n, wavelet)[:, zero:].to(device) for n, zero in zip(sizes, zeros, strict=True)
            )
            matrices.append((rows, columns))
            sizes, zeros = [len(rows) // 2, len(columns) // 2], [0, 0]
        # A shift of the image is one of the first level's matrices.
        self.first = [(r.roll(-k, 1), c.roll(-3 * k, 1)) for r, c in matrices[:1] for k in range(shifts)]
        self.further = matrices[1:]

    def __call__(self, x: Tensor, threshold: Tensor) -> Tensor:
        """The shrunk images.

        Args:
            x: images (B, C, H, W), complex or real.
            threshold: t, (B, 1, 1, 1) or a number.
        """
        if not self.first:
            return x * shrinkage(x.abs(), threshold)
        parts = torch.view_as_real(x).movedim(-1, 0) if x.is_complex() else x[None]
        parts = parts.contiguous()
        total = torch.zeros_like(parts)
        for first in self.first:
            total += self._shrunk(parts, threshold, [first, *self.further])
        total /= len(self.first)
        return torch.view_as_complex(total.movedim(0, -1).contiguous()) if x.is_complex() else total[0]

    def _shrunk(self, x: Tensor, threshold: Tensor, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
        """From this level on, of real and imaginary parts (1 or 2, B, C, H, W)."""
        rows, columns = levels[0]
        coefficients = rows @ x @ columns.mT
        low = (..., slice(len(rows) // 2), slice(len(columns) // 2))
        inner = self._shrunk(coefficients[low], threshold, levels[1:]) if levels[1:] else None
        coefficients *= shrinkage(coefficients.square().sum(0).sqrt_(), threshold)
        if inner is not None:
            coefficients[low] = inner
        return rows.mT @ coefficients @ columns


class L1WaveletParams(SparseParams):
    """Wavelet.

    Attributes:
        wavelet: name of an orthogonal wavelet, as PyWavelets has it.
        shifts: number of positions of the wavelets' grid; 1 is the problem of
            ``sigpy.mri.app.L1WaveletRecon``.
    """

    iterations: Count = 100
    wavelet: str = "sym6"
    shifts: Count = 4

    @field_validator("wavelet")
    @classmethod
    def _is_orthogonal(cls, name: str) -> str:
        import pywt

        known = pywt.wavelist(kind="discrete")
        if name not in known or not pywt.Wavelet(name).orthogonal:
            orthogonal = [other for other in known if pywt.Wavelet(other).orthogonal]
            raise ValueError(f"no orthogonal wavelet; there are {', '.join(orthogonal)}")
        return name


@dataclass
class FISTAState(State):
    """Accelerated proximal gradients.

    Attributes:
        rhs: Aᴴy.
        ahead: the point at which the next gradient is taken.
        momentum: t.
        shrink: the proximal operator.
        bound: one over the step size, (B, 1, 1, 1).
        threshold: λ times the step size, (B, 1, 1, 1).
    """

    rhs: Tensor
    ahead: Tensor
    momentum: float
    shrink: WaveletShrinkage
    bound: Tensor
    threshold: Tensor


@SOLVERS.register("l1-wavelet")
class L1Wavelet(SparseSolver[FISTAState]):
    """argmin ½ ‖A x − y‖² + λ ‖W x‖₁ (Lustig, Donoho & Pauly 2007), by FISTA.

    What the wavelets' grid leaves in the image is averaged out over several positions of the grid (cycle
    spinning, Coifman & Donoho 1995): the proximal operator is the mean of those of ‖W S_k x‖₁, S_k a shift,
    which is that of their proximal average (Bauschke et al. 2008), a convex function. FISTA is that of Beck &
    Teboulle (2009).
    """

    Params = L1WaveletParams
    params: L1WaveletParams
    relative = 1.0

    def start(self, task: Task) -> FISTAState:
        """Zero images."""
        x, p = task.blank(), self.params
        height, width = x.shape[-2:]
        shrink = WaveletShrinkage((height, width), p.wavelet, p.shifts, x.device)
        bound = self.bounds(task)
        rhs, threshold = task.linear.adjoint(task.data.y), self.weights(task) / bound
        return FISTAState(x, rhs, x, 1.0, shrink, bound, threshold)

    def step(self, task: Task, state: FISTAState, number: int) -> FISTAState:
        """A gradient step, the proximal operator and the extrapolation."""
        del number
        gradient = task.linear.normal(state.ahead) - state.rhs
        x = state.shrink(state.ahead - gradient / state.bound, state.threshold)
        momentum = (1 + sqrt(1 + 4 * state.momentum**2)) / 2
        ahead = x + (state.momentum - 1) / momentum * (x - state.x)
        return replace(state, x=x, ahead=ahead, momentum=momentum)


@dataclass
class PrimalDualState(State):
    """Primal and dual variables.

    Attributes:
        rhs: Aᴴy.
        ahead: the extrapolated images.
        data: Aᴴ of the dual variable of ½ ‖· − y‖².
        edges: dual variable of λ ‖·‖₁, (2, B, C, H, W).
        weight: λ, (B, 1, 1, 1), as what follows.
        rise: dual step size.
        fall: one over the primal step size.
    """

    rhs: Tensor
    ahead: Tensor
    data: Tensor
    edges: Tensor
    weight: Tensor
    rise: Tensor
    fall: Tensor


@SOLVERS.register("total-variation")
class TotalVariation(SparseSolver[PrimalDualState]):
    """argmin ½ ‖A x − y‖² + λ ‖∇x‖₁ (Block, Uecker & Frahm 2007), by primal-dual hybrid gradients.

    ∇ are the differences of neighbouring pixels, periodic: the problem of
    ``sigpy.mri.app.TotalVariationRecon``, for any operator. The algorithm's speed depends on the ratio of the
    dual to the primal step (Chambolle & Pock 2011), which should be that of the sizes of the solutions: the
    dual of ‖∇x‖₁ is at most λ where x is about 1.
    """

    Params = SparseParams
    relative = 0.4

    def start(self, task: Task) -> PrimalDualState:
        """Zero images."""
        x, weight = task.blank(), self.weights(task)
        rhs, edges = task.linear.adjoint(task.data.y), x.new_zeros(2, *x.shape)
        rise = torch.where(weight > 0, BALANCE * weight, 1.0)
        return PrimalDualState(x, rhs, x, x, edges, weight, rise, rise * (self.bounds(task) + STEEPEST))

    def step(self, task: Task, state: PrimalDualState, number: int) -> PrimalDualState:
        """The dual variables, then the images."""
        del number
        x, rise = state.ahead, state.rise
        data = (state.data + rise * (task.linear.normal(x) - state.rhs)) / (1 + rise)
        moved = state.edges + rise * torch.stack([x - x.roll(1, -2), x - x.roll(1, -1)])
        edges = moved - moved * shrinkage(moved.abs(), state.weight)
        down, right = edges
        curved = down - down.roll(-1, -2) + right - right.roll(-1, -1)
        x = state.x - (data + curved) / state.fall
        return replace(state, x=x, ahead=2 * x - state.x, data=data, edges=edges)
