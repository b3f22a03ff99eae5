"""Sparsity in wavelets."""

from __future__ import annotations

from typing import Any

from mrigen.inverse.base import SOLVERS
from mrigen.inverse.sparse import Array, SparseParams, SparseSolver, like


class L1WaveletParams(SparseParams):
    """Wavelet.

    Attributes:
        wavelet: name of an orthogonal wavelet, as PyWavelets has it.
    """

    wavelet: str = "db4"


@SOLVERS.register("l1-wavelet")
class L1Wavelet(SparseSolver):
    """argmin ½ ‖A x − y‖² + λ ‖W x‖₁ (Lustig, Donoho & Pauly 2007), by FISTA."""

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
            proxg=like(x, sigpy.prox.UnitaryTransform(shrink, wavelet)),
            alpha=1 / eigenvalue,
            max_iter=self.params.iterations,
            show_pbar=False,
        )
