"""ESPIRiT against a dense double-precision version, sigpy, BART and its own symmetries."""

import math
from pathlib import Path

import numpy as np
import pytest
import sigpy.mri.app
import torch
from benchmarks.espirit import peak_memory
from gpu import needs_gpu
from torch import Tensor

from mrigen import fourier
from mrigen.coils.calibration import acs_region, pixel_samples, projection, region, samples_of_projection
from mrigen.coils.espirit import espirit, espirit_eigen

from .dense_espirit import dense_espirit


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """|<a, b>| over coils, which a phase per pixel does not change; NaN where either was cropped."""
    inner = (a.to(torch.complex128).conj() * b.to(torch.complex128)).sum(-3).abs()
    return torch.where((support(a) & support(b)), inner, torch.nan)


def support(maps: Tensor) -> Tensor:
    return maps.abs().square().sum(-3) > 0.5


def agree(ours: Tensor, theirs: Tensor) -> None:
    """The tolerance that the project promises against other implementations."""
    assert 0.1 < support(theirs).double().mean() < 0.95
    assert (support(ours) != support(theirs)).double().mean() <= 0.005
    assert overlap(ours, theirs).nanmean() >= 0.9999


@pytest.fixture(scope="module")
def brain() -> Tensor:
    return torch.from_numpy(np.load(Path(__file__).parents[1] / "data/brain8ch/kspace.npz")["kspace"])


@pytest.fixture(scope="module")
def dense_brain(brain: Tensor) -> tuple[Tensor, Tensor]:
    """Leading four eigenvectors (4, coils, H, W) and eigenvalues (4, H, W) of the real scan."""
    vectors, values = dense_espirit(brain.numpy(), region(230, 24), region(180, 24), 6, 0.02)
    return (
        torch.from_numpy(vectors[..., :4]).permute(3, 2, 0, 1),
        torch.from_numpy(values[..., :4]).permute(2, 0, 1),
    )


def golden(data: Path, name: str) -> Tensor:
    return torch.view_as_complex(torch.from_numpy(np.load(data / "golden/espirit.npz")[name]).float())


@pytest.mark.parametrize("rows", [13, 40])
def test_products_alone_give_what_eigenvectors_give(brain: Tensor, rows: int) -> None:
    """The way of GPUs, for calibration matrices with fewer and with more rows than columns."""
    calib = brain[None, :3, 115 - rows // 2 : 115 + rows // 2, 80:100]
    expected = pixel_samples(calib, 4, 0.02)
    found = samples_of_projection(projection(calib.to(torch.complex128), 4, 0.02), 4)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_real_scan_equals_sigpy(data: Path, brain: Tensor) -> None:
    theirs = golden(data, "sigpy_maps")
    ours = espirit(brain, crop=0.95)
    agree(ours, theirs)
    inside = support(ours) & support(theirs)
    phase = (ours * theirs.conj()).sum(0)[inside].angle().abs()
    assert phase.median() < 1e-3  # the phase reference is the same, too


def test_real_scan_equals_bart(data: Path, brain: Tensor) -> None:
    """BART's threshold 0.001 is one of squared singular values."""
    theirs = golden(data, "bart_maps")
    agree(
        espirit(brain, thresh=math.sqrt(0.001), crop=0.8),
        theirs / theirs.abs().square().sum(0).sqrt().clamp(min=1),
    )


def test_equals_sigpy_run_here(head_scan: Tensor) -> None:
    app = sigpy.mri.app.EspiritCalib(head_scan.numpy(), crop=0.9, output_eigenvalue=True, show_pbar=False)
    theirs, values = (torch.from_numpy(a) for a in app.run())
    agree(espirit(head_scan, crop=0.9), theirs)
    _, ours = espirit_eigen(head_scan)
    assert torch.allclose(ours, values, atol=2e-3)


@pytest.mark.parametrize("crop", [0.8, 0.95])
def test_support_is_that_of_the_exact_eigenvalues(
    brain: Tensor, dense_brain: tuple[Tensor, Tensor], crop: float
) -> None:
    assert (support(espirit(brain, crop=crop)) != (dense_brain[1][0] > crop)).double().mean() < 1e-3


def test_eigenvectors_and_values_everywhere(brain: Tensor, dense_brain: tuple[Tensor, Tensor]) -> None:
    """Also where sigpy's power iterations have not converged, as long as there is a gap to speak of."""
    vectors, values = dense_brain
    maps, ours = espirit_eigen(brain)
    fit = overlap(maps[0], vectors[0])
    assert fit[values[0] - values[1] > 0.05].min() > 0.995
    assert fit.mean() > 0.99999
    assert (ours[0] - values[0]).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("rows", "columns", "kernel"),
    [(45, 10, 4), (slice(None), slice(14, 23), 4), (12, 37, 5), (24, 24, 6), (45, 37, 3), (5, 6, 5)],
)
def test_rectangular_regions(head_scan: Tensor, rows: int | slice, columns: int | slice, kernel: int) -> None:
    """Readout × ACS lines: both ways to the kernels (few and many windows) equal the dense one."""
    vectors, values = dense_espirit(head_scan.numpy(), region(45, rows), region(37, columns), kernel, 0.02)
    maps, ours = espirit_eigen(head_scan, (rows, columns), kernel)
    assert torch.allclose(ours[0], torch.from_numpy(values[..., 0]).float(), atol=5e-4)
    distinct = torch.from_numpy(values[..., 0] - values[..., 1]) > 0.1
    fit = overlap(maps[0], torch.from_numpy(vectors[..., 0]).permute(2, 0, 1))
    assert distinct.any()
    assert fit[distinct].mean() > 0.9999


def test_recovers_band_limited_maps(smooth_scan: tuple[Tensor, Tensor]) -> None:
    """Sensitivities that fit the kernel are exact eigenvectors with eigenvalue 1, up to a phase."""
    kspace, truth = smooth_scan
    maps, values = espirit_eigen(kspace, 32, 6, 1e-5)
    truth = truth / torch.linalg.vector_norm(truth, dim=0)
    assert overlap(maps[0], truth).min() > 1 - 1e-5
    assert torch.allclose(values, torch.ones_like(values), atol=1e-4)


def test_single_coil_has_modulus_one(head_scan: Tensor) -> None:
    maps = espirit(head_scan[:1], crop=0)
    assert torch.allclose(maps, torch.ones_like(maps), atol=1e-6)


def test_unit_norm_and_phase_reference(head_scan: Tensor) -> None:
    maps = espirit(head_scan, crop=0)
    assert torch.allclose(maps.abs().square().sum(0), torch.ones(45, 37), atol=1e-5)
    assert maps[0].imag.abs().max() < 1e-6
    assert maps[0].real.min() >= 0
    cropped = espirit(head_scan, crop=0.95)
    assert torch.equal(cropped[:, support(cropped)], maps[:, support(cropped)])
    assert (cropped[:, ~support(cropped)] == 0).all()


def test_scale_and_phase_of_the_data_do_not_matter(head_scan: Tensor) -> None:
    maps = espirit(head_scan, crop=0.95)
    assert torch.allclose(espirit(1e-6 * head_scan, crop=0.95), maps, atol=1e-3)
    assert torch.allclose(espirit(1e6j * head_scan, crop=0.95), maps, atol=1e-3)


def test_mixing_the_coils_mixes_the_maps(head_scan: Tensor, generator: torch.Generator) -> None:
    unitary = torch.linalg.qr(torch.randn(5, 5, dtype=torch.complex64, generator=generator)).Q
    mixed = torch.einsum("vc,chw->vhw", unitary, head_scan)
    maps, values = espirit_eigen(head_scan)
    ours, ours_values = espirit_eigen(mixed)
    assert torch.allclose(ours_values, values, atol=1e-3)
    assert overlap(ours, torch.einsum("vc,mchw->mvhw", unitary, maps)).mean() > 0.99999


def test_moving_the_image_moves_the_maps(smooth_scan: tuple[Tensor, Tensor]) -> None:
    kspace, _ = smooth_scan
    moved = fourier.fft(fourier.ifft(kspace).roll((7, -3), (-2, -1)))
    assert overlap(espirit(moved, crop=0), espirit(kspace, crop=0).roll((7, -3), (-2, -1))).min() > 0.9999


def test_turning_the_image_turns_the_maps(head_scan: Tensor) -> None:
    turned = espirit(head_scan.mT.contiguous(), (20, 30), crop=0.95).mT
    agree(turned, espirit(head_scan, (30, 20), crop=0.95))


@pytest.mark.parametrize(("calib", "kernel"), [(24, 6), ((32, 4), 3), (16, 4)])
def test_batch_equals_loop(calib: int | tuple[int, int], kernel: int, generator: torch.Generator) -> None:
    """Slices of different rank, more than one tile of them, any leading axes."""
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((4, 32, 32)).astype(np.complex64))
    images = torch.randn(2, 35, 1, 32, 32, dtype=torch.complex64, generator=generator)
    noise = torch.randn(2, 35, 4, 32, 32, dtype=torch.complex64, generator=generator)
    kspace = fourier.fft(maps * images) + torch.linspace(0, 0.3, 70).view(2, 35, 1, 1, 1) * noise
    batched, values = espirit_eigen(kspace, calib, kernel)
    assert batched.shape == (2, 35, 1, 4, 32, 32)
    for i in ((0, 0), (0, 34), (1, 12), (1, 34)):
        alone, alone_values = espirit_eigen(kspace[i], calib, kernel)
        assert torch.allclose(values[i], alone_values, atol=2e-3)
        assert overlap(batched[i], alone).mean() > 0.9999


def test_second_set_of_maps_where_the_image_folds(smooth_scan: tuple[Tensor, Tensor]) -> None:
    """Halving the field of view adds two pixels: the span of their sensitivities has eigenvalue 1."""
    kspace, truth = smooth_scan
    maps, values = espirit_eigen(kspace[:, ::2], 20, 4, 1e-5, maps=2)
    pair = torch.stack(truth.roll(10, 1).chunk(2, 1))
    basis = torch.linalg.qr(pair.permute(2, 3, 1, 0)).Q.to(torch.complex64)
    cosines = torch.linalg.svdvals(basis.mH @ maps.permute(2, 3, 1, 0))
    assert (values > 0.999).double().mean() > 0.99
    assert (cosines[..., -1] > 0.999).double().mean() > 0.99


def test_eigenvalues_of_both_sets_where_they_are_close(brain: Tensor) -> None:
    """In a folded image both are near 1; within their span the right vectors are found all the same."""
    folded = brain[:, ::2].contiguous()
    _, values = dense_espirit(folded.numpy(), slice(52, 64), region(180, 24), 4, 0.02)
    exact = torch.from_numpy(values[..., :2]).permute(2, 0, 1)
    assert (exact[1] > 0.95).double().mean() > 0.2
    _, ours = espirit_eigen(folded, (slice(52, 64), 24), 4, maps=2)
    assert (ours - exact).abs().max() < 3e-4
    assert (ours[0] >= ours[1]).all()


def test_map_sets_are_the_leading_eigenvectors(brain: Tensor, dense_brain: tuple[Tensor, Tensor]) -> None:
    vectors, values = dense_brain
    maps, ours = espirit_eigen(brain, maps=3)
    gram = torch.einsum("ichw,jchw->hwij", maps.conj(), maps)
    assert torch.allclose(gram, torch.eye(3, dtype=gram.dtype).expand_as(gram), atol=1e-4)
    assert (ours - values[:3]).abs().mean() < 1e-3
    gaps = values[:3] - values[1:]
    apart = torch.stack([gaps[0], gaps[:2].amin(0), gaps[1:].amin(0)]) > 0.1
    assert overlap(maps, vectors[:3])[apart].mean() > 0.9999
    cropped = espirit(brain, crop=0.95, maps=3)
    assert torch.equal(cropped.abs().square().sum(1) > 0.5, ours > 0.95)
    assert (support(cropped[0]) == support(espirit(brain, crop=0.95))).double().mean() > 0.995


def test_acs_region_is_what_the_mask_measured() -> None:
    mask = torch.zeros(37, dtype=torch.bool)
    mask[[0, 5, 12, 30]] = True
    mask[14:24] = True
    assert acs_region(mask) == slice(14, 24)
    assert acs_region(torch.ones(8, dtype=torch.bool)) == slice(0, 8)
    assert region(37, 10) == slice(13, 23)
    assert region(8, 24) == slice(0, 8)


@needs_gpu
def test_gpu_gives_the_maps_of_the_cpu(head_scan: Tensor) -> None:
    """A batch of slices: the same support but for pixels at the threshold, and the same maps in it."""
    kspace = torch.stack([head_scan, head_scan.flip(0)])
    ours, theirs = espirit(kspace.cuda(), crop=0.95).cpu(), espirit(kspace, crop=0.95)
    agree(ours, theirs)
    inside = (support(ours) & support(theirs))[:, None]
    torch.testing.assert_close(ours * inside, theirs * inside, rtol=0, atol=1e-2)


def test_memory_of_many_coils_stays_below_a_gibibyte() -> None:
    assert 0 < peak_memory((32, 384, 320)) < 1024
