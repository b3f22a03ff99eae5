"""Sparsity of differences between pixels."""

from __future__ import annotations

from typing import Any

from mrigen.inverse.base import SOLVERS
from mrigen.inverse.sparse import Array, SparseParams, SparseSolver, like

STEEPEST = 8.0  # largest eigenvalue of ∇ᴴ∇ on a grid of two dimensions


@SOLVERS.register("total-variation")
class TotalVariation(SparseSolver):
    """argmin ½ ‖A x − y‖² + λ ‖∇x‖₁ (Block, Uecker & Frahm 2007), by primal-dual hybrid gradients."""

    Params = SparseParams

    def app(self, linop: Any, y: Array, x: Array, eigenvalue: float) -> Any:
        """The problem of ``sigpy.mri.app.TotalVariationRecon``, for any operator."""
        import sigpy

        difference = sigpy.linop.FiniteDifference(linop.ishape, axes=(-2, -1))
        return sigpy.app.LinearLeastSquares(
            linop,
            y,
            x,
            proxg=like(x, sigpy.prox.L1Reg(difference.oshape, self.params.regularization)),
            G=difference,
            tau=1 / (eigenvalue + STEEPEST),
            sigma=1,
            max_iter=self.params.iterations,
            show_pbar=False,
        )
