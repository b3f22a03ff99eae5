"""Sparsity of differences between pixels."""

from __future__ import annotations

from typing import Any

from mrigen.inverse.base import SOLVERS
from mrigen.inverse.sparse import Array, SparseParams, SparseSolver, like

STEEPEST = 8.0  # largest eigenvalue of ∇ᴴ∇ on a grid of two dimensions
BALANCE = 10.0  # dual step over λ, for images of about 1


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
            proxg=like(x, sigpy.prox.L1Reg(difference.oshape, weight)),
            G=difference,
            tau=1 / (dual * (eigenvalue + STEEPEST)),
            sigma=dual,
            max_iter=self.params.iterations,
            show_pbar=False,
        )
