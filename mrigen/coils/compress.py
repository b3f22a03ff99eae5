"""Software coil compression: as few virtual coils as carry the signal (Buehrer et al. 2007)."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.coils.whiten import complex_kspace, covariance, mix_coils
from mrigen.errors import UsageError
from mrigen.tensors import ArrayLike


def compression_matrix(calibration: Tensor, virtual_coils: int) -> Tensor:
    """Matrix to the ``virtual_coils`` combinations of coils that keep most energy.

    Its rows are u_iᴴ for the leading left singular vectors u_i of the calibration data, a
    coils × points matrix, so that they are orthonormal and white noise stays white. The phase of a row
    makes its largest entry real and positive.

    Args:
        calibration: complex (..., coils, points), usually the ACS; one matrix per leading index, so
            flatten the slices into the points for a matrix that they share.
        virtual_coils: number of coils to compress to.

    Returns:
        complex64 (..., virtual_coils, coils).

    Raises:
        UsageError: more virtual coils than coils, or none; calibration data not finite or all zeros.
    """
    coils = calibration.shape[-2]
    if not 1 <= virtual_coils <= coils:
        raise UsageError(f"virtual_coils {virtual_coils} must lie between 1 and the number of coils, {coils}")
    energy = covariance(calibration)
    total = energy.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    if not (total.isfinite() & (total > 0)).all():
        raise UsageError("the calibration data for coil compression are all zeros or not finite")
    vectors = torch.linalg.eigh(energy).eigenvectors.flip(-1)[..., :virtual_coils]
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    matrix: Tensor = (vectors * largest.sgn().conj()).mH
    return matrix.to(torch.complex64)


def compress_coils(kspace: ArrayLike, virtual_coils: int, calib_width: int = 24) -> Tensor:
    """k-space of the ``virtual_coils`` combinations of coils that keep most energy of the centre.

    Args:
        kspace: complex (..., coils, H, W), DC in the centre, tensor or numpy array; leading axes are
            independent slices.
        virtual_coils: number of coils to compress to.
        calib_width: side of the square around DC that decides; where it was not measured, zeros count
            for nothing.

    Returns:
        (..., virtual_coils, H, W).

    Raises:
        UsageError: see ``compression_matrix``; k-space is real or has fewer axes; ``calib_width`` is below 1.

    Examples:
        >>> import torch, mrigen
        >>> kspace = torch.randn(2, 8, 16, 16, dtype=torch.complex64)
        >>> mrigen.compress_coils(kspace, 3).shape
        torch.Size([2, 3, 16, 16])
    """
    points = complex_kspace(kspace)
    if calib_width < 1:
        raise UsageError(f"calib_width must be at least 1, not {calib_width}")
    rows, columns = (
        slice(max(0, n // 2 - calib_width // 2), n // 2 + -(-calib_width // 2)) for n in points.shape[-2:]
    )
    matrix = compression_matrix(points[..., rows, columns].flatten(-2), virtual_coils)
    return mix_coils(matrix, points)
