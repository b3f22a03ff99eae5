"""Sparse reconstructions of whole batches, on the device of the measurements."""

from __future__ import annotations

from dataclasses import dataclass
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


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Entries x / |x| · max(|x| − t, 0), the proximal operator of t ‖x‖₁."""
    return x - x / (x.abs() / threshold).clamp(min=1)


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

        self.levels: list[tuple[Tensor, Tensor]] = []
        even = [size + size % 2 for size in shape]  # a zero before an odd number of pixels, as in sigpy
        levels, sizes, zeros = pywt.dwtn_max_level(even, wavelet), even, [size % 2 for size in shape]
        for _ in range(levels):
            rows, columns = (
                _analysis(n, wavelet)[:, zero:].to(device) for n, zero in zip(sizes, zeros, strict=True)
            )
            self.levels.append((rows, columns))
            sizes, zeros = [len(rows) // 2, len(columns) // 2], [0, 0]
        # A shift of the image is one of the first level's matrices.
        self.shifts = [(k, 3 * k) for k in range(shifts)] if levels else []

    def __call__(self, x: Tensor, threshold: Tensor) -> Tensor:
        """The shrunk images.

        Args:
            x: images (B, C, H, W), complex or real.
            threshold: t, (B, 1, 1, 1) or a number.
        """
        if not self.levels:
            return soft_threshold(x, threshold)
        parts = torch.view_as_real(x).movedim(-1, 0) if x.is_complex() else x[None]
        parts = parts.contiguous()
        total = torch.zeros_like(parts)
        for down, right in self.shifts:
            rows, columns = self.levels[0]
            first = rows.roll(-down, 1), columns.roll(-right, 1)
            total += self._shrunk(parts, threshold, [first, *self.levels[1:]])
        total /= len(self.shifts)
        return torch.view_as_complex(total.movedim(0, -1).contiguous()) if x.is_complex() else total[0]

    def _shrunk(self, x: Tensor, threshold: Tensor, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
        """From this level on, of real and imaginary parts (1 or 2, B, C, H, W)."""
        rows, columns = levels[0]
        coefficients = rows @ x @ columns.mT
        low = (..., slice(len(rows) // 2), slice(len(columns) // 2))
        inner = self._shrunk(coefficients[low], threshold, levels[1:]) if levels[1:] else None
        size = coefficients.square().sum(0).sqrt_()
        coefficients -= coefficients / (size / threshold).clamp_(min=1)
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
    """

    rhs: Tensor
    ahead: Tensor
    momentum: float
    shrink: WaveletShrinkage


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
        return FISTAState(x, task.linear.adjoint(task.data.y), x, 1.0, shrink)

    def step(self, task: Task, state: FISTAState, number: int) -> FISTAState:
        """A gradient step, the proximal operator and the extrapolation."""
        del number
        bound = self.bounds(task)
        gradient = task.linear.normal(state.ahead) - state.rhs
        x = state.shrink(state.ahead - gradient / bound, self.weights(task) / bound)
        momentum = (1 + sqrt(1 + 4 * state.momentum**2)) / 2
        ahead = x + (state.momentum - 1) / momentum * (x - state.x)
        return FISTAState(x, state.rhs, ahead, momentum, state.shrink)


@dataclass
class PrimalDualState(State):
    """Primal and dual variables.

    Attributes:
        rhs: Aᴴy.
        ahead: the extrapolated images.
        data: Aᴴ of the dual variable of ½ ‖· − y‖².
        edges: dual variable of λ ‖·‖₁, (2, B, C, H, W).
    """

    rhs: Tensor
    ahead: Tensor
    data: Tensor
    edges: Tensor


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
        x = task.blank()
        edges = x.new_zeros(2, *x.shape)
        return PrimalDualState(x, task.linear.adjoint(task.data.y), x, x, edges)

    def step(self, task: Task, state: PrimalDualState, number: int) -> PrimalDualState:
        """The dual variables, then the images."""
        del number
        weight, x = self.weights(task), state.ahead
        rise = torch.where(weight > 0, BALANCE * weight, 1.0)  # dual step; the primal one is 1 / fall
        fall = rise * (self.bounds(task) + STEEPEST)
        data = (state.data + rise * (task.linear.normal(x) - state.rhs)) / (1 + rise)
        moved = state.edges + rise * torch.stack([x - x.roll(1, -2), x - x.roll(1, -1)])
        edges = moved - soft_threshold(moved, weight)
        down, right = edges
        curved = down - down.roll(-1, -2) + right - right.roll(-1, -1)
        x = state.x - (data + curved) / fall
        return PrimalDualState(x, state.rhs, 2 * x - state.x, data, edges)
