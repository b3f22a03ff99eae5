"""Noise pre-whitening: coils whose noise is independent and of standard deviation 1.

Convention: Ψ is the covariance *per real component*, Ψ = E[n nᴴ] / 2 for circular complex noise n, as
σ counts everywhere in mrigen. Whitened noise has Ψ = I: the real and the imaginary part of every coil
have variance 1, and E|n|² = 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.tensors import ArrayLike, tensor_of

ROUNDING = 1e-5  # noise below this fraction of the image's root mean square is rounding of float32 transforms
SINGULAR = 1e-6  # smallest part of a coil's noise variance that the coils before it may leave unexplained


def corner_noise(kspace: Tensor, size: int = 30) -> Tensor:
    """Noise samples from one corner of the coil images, where there is air.

    Ambient DPS (Aali et al. 2025) takes 30 × 30 pixels. The transform is orthonormal, so that white
    noise of a fully sampled k-space has the same covariance in the image; where only a fraction p of
    the lines was acquired, it is p times that of the acquired points.

    Args:
        kspace: complex (..., coils, H, W), DC in the centre, not undersampled.
        size: side of the corner in pixels; an eighth of the image's side at most.

    Returns:
        Samples of all slices together, complex (coils, samples).

    Raises:
        UsageError: ``size`` is below 1, or the corners hold nothing but rounding error.
    """
    if size < 1:
        raise UsageError(f"the noise corner must have at least 1 pixel a side, not {size}")
    height, width = (min(size, max(1, side // 8)) for side in kspace.shape[-2:])
    images = fourier.ifft_first(fourier.ifft_first(kspace, height, -2), width, -1)
    corner = images.movedim(-3, 0).flatten(1)
    rms = [torch.linalg.vector_norm(torch.view_as_real(x)) / x.numel() ** 0.5 for x in (corner, kspace)]
    if rms[0] < ROUNDING * rms[1]:
        raise UsageError("the image corner holds no noise: leave out whitening, noiseless data need none")
    return corner


def noise_covariance(noise: Tensor) -> Tensor:
    """Ψ per real component from noise of mean zero: (..., coils, samples) to (..., coils, coils)."""
    return covariance(noise) / 2


def whitening_matrix(noise: Tensor, *, loading: float = 0.0) -> Tensor:
    """W = L⁻¹ of the Cholesky factorisation Ψ = L Lᴴ, so that W Ψ Wᴴ = I.

    Args:
        noise: noise samples, complex (..., coils, samples).
        loading: adds ``loading`` times the mean variance of the coils to every variance.

    Returns:
        Lower triangular, complex64 (..., coils, coils).

    Raises:
        UsageError: Ψ is singular or not finite, as for dead coils or fewer samples than coils.
    """
    psi = noise_covariance(noise)
    coils = psi.shape[-1]
    identity = torch.eye(coils, dtype=psi.dtype, device=psi.device)
    mean = psi.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    psi = psi + loading * mean[..., None, None] * identity
    factor, fault = torch.linalg.cholesky_ex(psi)
    own, variance = (m.diagonal(dim1=-2, dim2=-1).real for m in (factor, psi))
    if (fault != 0).any() or not (own.square() > SINGULAR * variance).all():
        raise UsageError(
            f"the noise covariance of {coils} coils from {noise.shape[-1]} samples is singular: "
            "take more samples, drop dead or doubled coils, or set loading (0.01, say)"
        )
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.to(torch.complex64)


def whiten(kspace: ArrayLike, matrix: ArrayLike | None = None) -> Tensor:
    """Coils whose noise is independent and of standard deviation 1 per real component.

    Args:
        kspace: complex k-space or coil images (..., coils, H, W), tensor or numpy array.
        matrix: of ``whitening_matrix``, (..., coils, coils); by default that of the noise in a corner of
            the images, which must be fully sampled for it.

    Returns:
        Of the shape of ``kspace``.

    Raises:
        UsageError: see ``corner_noise`` and ``whitening_matrix``; shapes that do not fit together.

    Examples:
        >>> import torch, mrigen
        >>> noise = torch.randn(4, 64, 64, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        >>> noise[1] += noise[0]
        >>> white = mrigen.whiten(5 * noise)
        >>> (white[0].conj() * white[1]).mean().abs() < 0.2
        tensor(True)
    """
    points = complex_kspace(kspace)
    mixing = whitening_matrix(corner_noise(points)) if matrix is None else tensor_of(matrix)
    coils = points.shape[-3]
    if tuple(mixing.shape[-2:]) != (coils, coils):
        raise UsageError(
            f"a whitening matrix of {coils} coils is ({coils}, {coils}), not {tuple(mixing.shape)}"
        )
    return mix_coils(mixing, points)


def complex_kspace(kspace: ArrayLike) -> Tensor:
    """k-space as a tensor, complex (..., coils, H, W).

    Raises:
        UsageError: it is real, or has fewer axes.
    """
    points = tensor_of(kspace)
    if points.ndim < 3 or not points.is_complex():
        kind = str(points.dtype).removeprefix("torch.")
        raise UsageError(f"k-space must be complex (..., coils, H, W), not {kind} {tuple(points.shape)}")
    return points


def covariance(samples: Tensor) -> Tensor:
    """Mean over the samples of x xᴴ, (..., coils, samples) to complex128 (..., coils, coils)."""
    samples = samples.to(torch.complex128)
    return samples @ samples.mH / samples.shape[-1]


def mix_coils(matrix: Tensor, kspace: Tensor) -> Tensor:
    """Σ_c matrix[..., v, c] kspace[..., c, H, W]; leading axes broadcast."""
    mixed = matrix.to(kspace.dtype) @ kspace.flatten(-2)
    return mixed.view(*mixed.shape[:-1], *kspace.shape[-2:])
