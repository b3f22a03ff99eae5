"""Scans to calibrate on."""

import numpy as np
import pytest
import sigpy.mri
import torch
from torch import Tensor

from mrigen import fourier


def _trigonometric(coils: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth coil sensitivities whose k-space fills 3 × 3 points: complex (coils, H, W)."""
    coefficients = torch.randn(coils, 3, 3, dtype=torch.complex128, generator=generator)
    coefficients[:, 1, 1] *= 3
    spectrum = torch.zeros(coils, height, width, dtype=torch.complex128)
    top, left = height // 2 - 1, width // 2 - 1
    spectrum[:, top : top + 3, left : left + 3] = coefficients
    return fourier.ifft(spectrum)


@pytest.fixture
def smooth_scan(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noiseless k-space of a random image under trigonometric sensitivities, and these: (4, 40, 36)."""
    maps = _trigonometric(4, 40, 36, generator)
    image = torch.randn(40, 36, dtype=torch.complex128, generator=generator)
    return fourier.fft(maps * image).to(torch.complex64), maps


@pytest.fixture
def head_scan() -> Tensor:
    """Noisy k-space of an ellipse with detail under birdcage coils, odd size: complex64 (5, 45, 37)."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((5, 45, 37)).astype(np.complex64))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 45), torch.linspace(-1, 1, 37), indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.5 * torch.rand(45, 37, generator=generator))
    noise = torch.randn(5, 45, 37, dtype=torch.complex64, generator=generator)
    return fourier.fft(maps * image + 0.01 * noise)
