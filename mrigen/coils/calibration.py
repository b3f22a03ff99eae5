"""From calibration data to the pixelwise matrices of ESPIRiT, in a compact form.

ESPIRiT (Uecker et al. 2014) slides a K × K window over the calibration region, stacks the windows of
all coils as rows of a matrix A and keeps the right singular vectors v_i with σ_i > thresh · σ_max. In
image space they give one C × C Hermitian matrix per pixel,

    G(r) = K⁻² Σ_i h_i(r) h_i(r)ᴴ,    h_i(r)_c = Σ_k conj(v_i[c, k]) exp(2πi k·r / N),

whose eigenvectors with eigenvalue 1 are the coil sensitivities.

Two facts make it cheap. The vectors v_i come from the smaller of A Aᴴ and Aᴴ A, not from an SVD of A.
And G is a trigonometric polynomial of degree K - 1 in either direction, so that its values at
(2K - 1)² equidistant points say everything; ``eigenmaps`` interpolates between them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mrigen.coils.eigenmaps import leading_eigenvectors
from mrigen.errors import UsageError

Extent = int | slice
NEAREST, ROUNDING = 1e-4, 1e-13  # to the threshold, and to 1
MARGIN = 1.01


def region(size: int, extent: Extent) -> slice:
    """Indices of ``extent`` points around DC at ``size // 2``; a slice is taken as it stands.

    The first index is ``size // 2 - extent // 2`` as in ``sigpy.resize``; an extent beyond the matrix
    means the whole axis.
    """
    if isinstance(extent, slice):
        return slice(*extent.indices(size))
    first = max(size // 2 - extent // 2, 0)
    return slice(first, min(first + extent, size))


def acs_region(lines: Tensor) -> slice:
    """The contiguous sampled lines around DC of a mask, to pass as one axis of ``calib_width``.

    Args:
        lines: sampled phase-encode lines, bool (W,), DC at W // 2.

    Raises:
        UsageError: DC is not sampled, so that there is no calibration region.
    """
    missing = (~lines.bool()).nonzero().flatten().tolist()
    dc = len(lines) // 2
    if dc in missing:
        raise UsageError("the mask has no line at DC, hence no ACS lines: maps need a fully sampled centre")
    first = max((i + 1 for i in missing if i < dc), default=0)
    last = min((i for i in missing if i > dc), default=len(lines))
    return slice(first, last)


def pixel_samples(calib: Tensor, kernel_width: int, thresh: float) -> Tensor:
    """Values of G at angles 2π (f_y, f_x) / (2K - 1).

    Args:
        calib: calibration data, complex (B, coils, height, width), no side shorter than the kernel.
        kernel_width: K.
        thresh: keep singular values above ``thresh`` times the largest of the slice.

    Returns:
        Hermitian matrices, complex64 (B, 2K - 1, 2K - 1, coils, coils); G at pixel r of an axis of N
        pixels belongs to the angle 2π (r - N // 2) / N.
    """
    calib = calib.to(torch.complex128)
    if calib.is_cuda:
        return samples_of_projection(projection(calib, kernel_width, thresh), kernel_width)
    dft = _phases(kernel_width, calib.device)
    kernels = _kernels(calib, kernel_width, thresh)
    images = torch.einsum("bcyxi,fy,gx->bfgci", kernels, dft, dft).to(torch.complex64)
    samples: Tensor = images @ images.mH / kernel_width**2
    return samples


def _phases(kernel_width: int, device: torch.device) -> Tensor:
    """exp(i angle k) of the 2K - 1 angles and the taps k, complex128 (2K - 1, K)."""
    count = 2 * kernel_width - 1
    angle = 2 * math.pi / count * torch.arange(count, device=device, dtype=torch.float64)
    tap = torch.arange(kernel_width, device=device, dtype=torch.float64)
    return torch.polar(torch.ones((), device=device, dtype=torch.float64), angle[:, None] * tap)


def samples_of_projection(projection: Tensor, kernel_width: int) -> Tensor:
    """As ``pixel_samples``, from Σ_i v_i v_iᴴ (B, K C K, K C K), which is all that G depends on.

    G(r) = K⁻² Σ conj(P[(k, c), (l, d)]) exp(2πi (k − l)·r / N), the sum over the taps k and l.
    """
    dft, width = _phases(kernel_width, projection.device), kernel_width
    shift = (dft[:, :, None] * dft[:, None].conj()).flatten(1)  # (F, K²)
    coils = projection.shape[1] // width**2
    parts = projection.conj().reshape(len(projection), width, coils, width, width, coils, width)
    rows = parts.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(projection), width**2, -1)
    rows = (shift @ rows).reshape(len(projection), len(dft), coils, coils, width**2)
    samples: Tensor = (rows @ shift.mT).permute(0, 1, 4, 2, 3) / width**2
    return samples.to(torch.complex64)


def projection(calib: Tensor, kernel_width: int, thresh: float) -> Tensor:
    """Σ_i v_i v_iᴴ over the kept singular vectors, in products of matrices alone.

    GPUs solve the eigenproblems of ``_kernels`` one after the other. With P the projection on the
    eigenvectors of H = A Aᴴ above thresh² λ_max, the sum is Aᴴ P H⁻¹ P A = Bᴴ B, where B = L⁻¹ P A and
    L Lᴴ = P H P + λ_max (I − P); if A has more rows than columns, it is the projection of Aᴴ A itself.
    """
    coils, height, width = calib.shape[-3:]
    windows = (height - kernel_width + 1) * (width - kernel_width + 1)
    if windows >= coils * kernel_width**2:
        upper = _gram(calib, kernel_width).triu()
        squared = upper + upper.triu(1).mH
        return _above(squared, _largest(squared), thresh)
    a = _windows(calib, kernel_width)
    squared = a @ a.mH
    largest = _largest(squared)
    kept = _above(squared, largest, thresh)
    seen = kept @ squared
    eye = torch.eye(windows, dtype=kept.dtype, device=kept.device)
    lower = torch.linalg.cholesky_ex((seen + seen.mH) / 2 + largest * (eye - kept)).L
    b = torch.linalg.solve_triangular(lower, kept @ a, upper=False)
    product: Tensor = b.mH @ b
    return product


def _largest(squared: Tensor) -> Tensor:
    """λ_max of Hermitian matrices (B, n, n): (B, 1, 1)."""
    _, values = leading_eigenvectors(squared, 1)
    return values


def _above(squared: Tensor, largest: Tensor, thresh: float) -> Tensor:
    """Projection on the eigenvectors above thresh² λ_max: (I + sign(H − thresh² λ_max I)) / 2.

    The sign is the limit of scaled Newton-Schulz steps X ← ρ X (3 I − ρ² X²) / 2, whose ρ is the best for
    eigenvalues of size l to 1 (Chen and Chow 2014, "A stable scaling of Newton-Schulz for improving the sign
    function computation of a Hermitian matrix"). λ_max is an estimate from below, and an eigenvalue above 1
    would change its sign; hence the margin. One nearer to the threshold than a ten thousandth of it counts in
    part.
    """
    eye = torch.eye(squared.shape[-1], dtype=squared.dtype, device=squared.device)
    sign = (squared / largest - thresh**2 * eye) / MARGIN
    least = NEAREST * thresh**2 / MARGIN
    while least < 1 - ROUNDING:
        scale = math.sqrt(3 / (1 + least + least**2))
        sign = torch.baddbmm(sign, sign, sign @ sign, beta=1.5 * scale, alpha=-0.5 * scale**3)
        least = 0.5 * scale * least * (3 - (scale * least) ** 2)
    return (eye + sign) / 2


def _windows(calib: Tensor, kernel_width: int) -> Tensor:
    """A, (B, windows, columns), columns ordered (k_y, coil, k_x)."""
    a = calib.unfold(-2, kernel_width, 1).unfold(-2, kernel_width, 1)
    return a.permute(0, 2, 3, 4, 1, 5).flatten(3).flatten(1, 2)


def _kernels(calib: Tensor, kernel_width: int, thresh: float) -> Tensor:
    """conj(v_i) of the kept singular vectors, zero where a slice keeps fewer: (B, coils, K, K, kept)."""
    coils, height, width = calib.shape[-3:]
    windows = (height - kernel_width + 1) * (width - kernel_width + 1)
    if windows < coils * kernel_width**2:
        a = _windows(calib, kernel_width)
        squared, left = _dominant(a @ a.mH, thresh)
        vectors = a.mH @ (left * squared.rsqrt()[:, None])
    else:
        _, vectors = _dominant(_gram(calib, kernel_width), thresh)
    kernels: Tensor = vectors.conj().unflatten(1, (kernel_width, coils, kernel_width))
    return kernels.transpose(1, 2)


def _dominant(squared: Tensor, thresh: float) -> tuple[Tensor, Tensor]:
    """Eigenpairs above thresh² times the largest; value 1 and vector 0 where a slice keeps fewer."""
    values, vectors = torch.linalg.eigh(squared, UPLO="U")
    keep = values > thresh**2 * values[:, -1:]
    most = int(keep.sum(1).max())
    values, vectors, keep = values[:, -most:], vectors[..., -most:], keep[:, -most:]
    return torch.where(keep, values, 1), vectors * keep[:, None]


def _gram(calib: Tensor, kernel_width: int) -> Tensor:
    """Upper blocks of Aᴴ A, columns ordered (k_y, coil, k_x), without forming A.

    With X_y the windows along x of row y, block (j, k) is Σ_y X_{y+j}ᴴ X_{y+k} over the n vertical
    positions. Only j = 0 needs the whole sum; from block (j, k) to (j + 1, k + 1) it loses row y = 0
    and gains row y = n.
    """
    batch, coils, height, _ = calib.shape
    positions, columns = height - kernel_width + 1, coils * kernel_width
    rows = calib.unfold(-1, kernel_width, 1).permute(0, 2, 3, 1, 4).flatten(3)
    gram = calib.new_zeros(batch, kernel_width, columns, kernel_width, columns)
    top = rows[:, :positions].flatten(1, 2).mH
    for k in range(kernel_width):
        gram[:, 0, :, k] = top @ rows[:, k : k + positions].flatten(1, 2)
    lost, gained = (
        edge.transpose(1, 2).flatten(2) for edge in (rows[:, : kernel_width - 1], rows[:, positions:])
    )
    change = (gained.mH @ gained - lost.mH @ lost).unflatten(2, (-1, columns)).unflatten(1, (-1, columns))
    for j in range(1, kernel_width):
        gram[:, j, :, j:] = gram[:, j - 1, :, j - 1 : -1] + change[:, j - 1, :, j - 1 :]
    return gram.flatten(3).flatten(1, 2)
