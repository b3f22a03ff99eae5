"""Coil compression: energy, orthonormality and what it does to maps."""

import math

import pytest
import torch
from torch import Tensor

from mrigen.coils.compress import compression_matrix
from mrigen.coils.espirit import espirit
from mrigen.coils.whiten import mix_coils
from mrigen.errors import UsageError


def kept_energy(data: Tensor, matrix: Tensor) -> Tensor:
    """Fraction of the energy of (..., coils, points) that virtual coils keep."""
    data = data.to(torch.complex128)
    kept = (matrix.to(data.dtype) @ data).abs().square().sum((-2, -1))
    return kept / data.abs().square().sum((-2, -1))


def test_keeps_the_leading_singular_values(generator: torch.Generator) -> None:
    """Among all orthonormal rows the leading singular vectors keep most: Σ_{i<v} σ_i² / Σ σ_i²."""
    data = torch.randn(3, 8, 60, dtype=torch.complex64, generator=generator)
    data *= torch.linspace(1, 4, 8)[:, None]
    singular = torch.linalg.svdvals(data.to(torch.complex128)).square()
    for virtual in (1, 3, 8):
        matrix = compression_matrix(data, virtual)
        assert torch.allclose(matrix @ matrix.mH, torch.eye(virtual, dtype=matrix.dtype), atol=1e-5)
        expected = singular[:, :virtual].sum(1) / singular.sum(1)
        assert torch.allclose(kept_energy(data, matrix), expected, atol=1e-5)


def test_data_of_low_rank_are_kept_whole(generator: torch.Generator) -> None:
    source = torch.randn(3, 10, 12, dtype=torch.complex64, generator=generator)
    mixing = torch.randn(16, 3, dtype=torch.complex64, generator=generator)
    kspace = torch.einsum("cv,vhw->chw", mixing, source)
    matrix = compression_matrix(kspace.flatten(1), 3)
    small = mix_coils(matrix, kspace)
    assert small.shape == (3, 10, 12)
    assert math.isclose(kept_energy(kspace.flatten(1), matrix), 1, abs_tol=1e-5)
    back = torch.einsum("vc,vhw->chw", matrix.conj(), small)
    assert torch.allclose(back, kspace, atol=1e-4)


def test_sign_and_order_are_fixed(generator: torch.Generator) -> None:
    """A global phase of the data does not change the matrix, and virtual coils come strongest first."""
    data = torch.randn(6, 200, dtype=torch.complex64, generator=generator) * torch.arange(1, 7)[:, None]
    matrix = compression_matrix(data, 4)
    assert torch.allclose(compression_matrix(1j * data, 4), matrix, atol=1e-5)
    energy = (matrix @ data).abs().square().sum(1)
    assert (energy.diff() < 0).all()


def test_all_virtual_coils_leave_the_combined_image_alone(head_scan: Tensor) -> None:
    """A unitary mixture of coils has the same root sum of squares and the same ESPIRiT support."""
    mixed = mix_coils(compression_matrix(head_scan.flatten(1), 5), head_scan)
    assert torch.allclose(mixed.abs().square().sum(0), head_scan.abs().square().sum(0), rtol=1e-4)
    support = [(espirit(k, crop=0.95).abs().sum(0) > 0).double() for k in (mixed, head_scan)]
    assert (support[0] - support[1]).abs().mean() < 0.002


@pytest.mark.parametrize("virtual", [0, 6])
def test_impossible_numbers_are_refused(head_scan: Tensor, virtual: int) -> None:
    with pytest.raises(UsageError, match=f"virtual_coils {virtual} must lie between 1 and .* 5"):
        compression_matrix(head_scan.flatten(1), virtual)


@pytest.mark.parametrize("fill", [0, torch.nan, torch.inf])
def test_data_without_signal_are_refused(fill: float) -> None:
    with pytest.raises(UsageError, match="all zeros or not finite"):
        compression_matrix(torch.full((2, 4, 10), fill, dtype=torch.complex64), 2)
