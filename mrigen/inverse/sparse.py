"""Sparse reconstructions through sigpy's apps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.inverse.base import SOLVERS, Count, NonNegative, Solver, SolverParams, State
from mrigen.inverse.task import Task
from mrigen.operators.sigpy_bridge import to_sigpy

Array = NDArray[Any]
Prox = Callable[[float, Array], Array]
LEAST = 0.001  # of λ, where it follows the noise
STEEPEST = 8.0  # largest eigenvalue of ∇ᴴ∇ on a grid of two dimensions
BALANCE = 10.0  # dual step over λ, for images of about 1


class SparseParams(SolverParams):
    """A convex problem.

    Attributes:
        regularization: λ, for data scaled as mrigen prepares them (bright tissue is about 1); None for the
            solver's multiple of the noise level σ, and at least 0.001.
        iterations: of sigpy's algorithm.
    """

    regularization: NonNegative | None = None
    iterations: Count = 200


class SparseSolver(Solver[State]):
    """argmin ½ ‖A x − y‖² + λ g(x) for any linear A, one image after the other.

    Works on the CPU. The step size comes from the operator's ``norm_bound``, and nothing depends on numpy's
    global generator.

    Attributes:
        relative: λ / σ where λ is not given.
    """

    Params: ClassVar[type[SolverParams]] = SparseParams
    params: SparseParams
    relative: ClassVar[float]

    @abstractmethod
    def app(self, linop: Any, y: Array, x: Array, weight: float, eigenvalue: float) -> Any:
        """The sigpy app of one image, which starts from x.

        Args:
            linop: A.
            y: measurement.
            x: image to start from.
            weight: λ.
            eigenvalue: no smaller than the largest of AᴴA.
        """

    def start(self, task: Task) -> State:
        """Nothing yet."""
        return State(task.blank())

    def step(self, task: Task, state: State, number: int) -> State:
        """All images."""
        del number
        A = task.linear
        bounds = A.norm_bound().expand(len(state.x)).clamp(min=1e-12).tolist()
        images: list[Tensor] = []
        for index, bound in enumerate(bounds):
            y, x = (np.ascontiguousarray(a[index].cpu().numpy()) for a in (task.data.y, state.x))
            weight = self._weight(float(task.data.sigma[index]))
            app = self.app(to_sigpy(A, index), y, x, weight, bound)
            with np.errstate(invalid="ignore"):  # sigpy's threshold of real zeros divides before it chooses
                solved = app.run()
            images.append(torch.from_numpy(solved).to(state.x))
        return State(torch.stack(images))

    def _weight(self, sigma: float) -> float:
        regularization = self.params.regularization
        return max(self.relative * sigma, LEAST) if regularization is None else regularization


def like(x: Array, shape: Any, prox: Prox) -> Any:
    """The proximal operator for images like x.

    sigpy makes real images complex: its wavelets always, its threshold where it has met complex images in the
    same process before.
    """
    import sigpy

    class Like(sigpy.prox.Prox):  # type: ignore[misc]
        def _prox(self, alpha: float, image: Array) -> Array:
            shrunk: Array = prox(alpha, image)
            return (shrunk if np.iscomplexobj(x) else shrunk.real).astype(x.dtype)

    return Like(shape)


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


@SOLVERS.register("l1-wavelet")
class L1Wavelet(SparseSolver):
    """argmin ½ ‖A x − y‖² + λ ‖W x‖₁ (Lustig, Donoho & Pauly 2007), by FISTA.

    What the wavelets' grid leaves in the image is averaged out over several positions of the grid (cycle
    spinning, Coifman & Donoho 1995): the proximal operator is the mean of those of ‖W S_k x‖₁, S_k a shift,
    which is that of their proximal average (Bauschke et al. 2008), a convex function.
    """

    Params = L1WaveletParams
    params: L1WaveletParams
    relative = 1.0

    def app(self, linop: Any, y: Array, x: Array, weight: float, eigenvalue: float) -> Any:
        """The problem of ``sigpy.mri.app.L1WaveletRecon``, for any operator."""
        import sigpy

        wavelet = sigpy.linop.Wavelet(linop.ishape, axes=(-2, -1), wave_name=self.params.wavelet)
        shrink = sigpy.prox.L1Reg(wavelet.oshape, weight)
        return sigpy.app.LinearLeastSquares(
            linop,
            y,
            x,
            proxg=like(x, linop.ishape, self._averaged(sigpy.prox.UnitaryTransform(shrink, wavelet))),
            alpha=1 / eigenvalue,
            max_iter=self.params.iterations,
            show_pbar=False,
        )

    def _averaged(self, prox: Prox) -> Prox:
        """The mean of a proximal operator over shifts of the image."""
        shifts = [(k, 3 * k) for k in range(self.params.shifts)]

        def averaged(alpha: float, image: Array) -> Array:
            total = np.zeros_like(image)
            for down, right in shifts:
                moved = prox(alpha, np.roll(image, (down, right), (-2, -1)))
                total = total + np.roll(moved, (-down, -right), (-2, -1))
            return total / len(shifts)

        return averaged


@SOLVERS.register("total-variation")
class TotalVariation(SparseSolver):
    """argmin ½ ‖A x − y‖² + λ ‖∇x‖₁ (Block, Uecker & Frahm 2007), by primal-dual hybrid gradients.

    Their speed depends on the ratio of the dual to the primal step (Chambolle & Pock 2011), which should
    be that of the sizes of the solutions: the dual of ‖∇x‖₁ is at most λ where x is about 1.
    """

    Params = SparseParams
    relative = 0.4

    def app(self, linop: Any, y: Array, x: Array, weight: float, eigenvalue: float) -> Any:
        """The problem of ``sigpy.mri.app.TotalVariationRecon``, for any operator."""
        import sigpy

        dual = BALANCE * weight or 1.0
        difference = sigpy.linop.FiniteDifference(linop.ishape, axes=(-2, -1))
        return sigpy.app.LinearLeastSquares(
            linop,
            y,
            x,
            proxg=like(x, difference.oshape, sigpy.prox.L1Reg(difference.oshape, weight)),
            G=difference,
            tau=1 / (dual * (eigenvalue + STEEPEST)),
            sigma=dual,
            max_iter=self.params.iterations,
            show_pbar=False,
        )
