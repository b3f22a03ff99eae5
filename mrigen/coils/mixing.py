"""Covariance between coils and matrices applied across them: what compression and whitening share."""

import torch
from torch import Tensor


def covariance(samples: Tensor) -> Tensor:
    """Mean over the samples of x xᴴ, (..., coils, samples) to complex128 (..., coils, coils)."""
    samples = samples.to(torch.complex128)
    return samples @ samples.mH / samples.shape[-1]


def mix_coils(matrix: Tensor, kspace: Tensor) -> Tensor:
    """Σ_c matrix[..., v, c] kspace[..., c, H, W]; leading axes broadcast."""
    mixed = matrix.to(kspace.dtype) @ kspace.flatten(-2)
    return mixed.view(*mixed.shape[:-1], *kspace.shape[-2:])
