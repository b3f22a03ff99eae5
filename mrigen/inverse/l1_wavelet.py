"""Sparsity in wavelets."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrigen.inverse.base import SOLVERS
from mrigen.inverse.sparse import Array, SparseParams, SparseSolver


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

    def app(self, linop: Any, y: Array, x: Array, eigenvalue: float) -> Any:
        """The problem of ``sigpy.mri.app.L1WaveletRecon``, for any operator."""
        import sigpy

        wavelet = sigpy.linop.Wavelet(linop.ishape, axes=(-2, -1), wave_name=self.params.wavelet)
        shrink = sigpy.prox.L1Reg(wavelet.oshape, self.params.regularization)
        return sigpy.app.LinearLeastSquares(
            linop,
            y,
            x,
            proxg=_like(x, sigpy.prox.UnitaryTransform(shrink, wavelet)),
            alpha=1 / eigenvalue,
            max_iter=self.params.iterations,
            show_pbar=False,
        )


def _like(x: Array, prox: Any) -> Any:
    """The proximal operator for images like x: sigpy's wavelets make real images complex."""
    import sigpy

    class Like(sigpy.prox.Prox):  # type: ignore[misc]
        def _prox(self, alpha: float, image: Array) -> Array:
            found: Array = prox(alpha, image)
            return (found if np.iscomplexobj(x) else found.real).astype(x.dtype)

    return Like(prox.shape)
