"""Noise pre-whitening: identity covariance per real component, and errors that say what to do."""

import pytest
import torch
from torch import Tensor

from mrigen import fourier
from mrigen.coils.whiten import corner_noise, noise_covariance, whiten, whitening_matrix
from mrigen.errors import UsageError
from mrigen.tensors import randn_like


def coloured(shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise L w with w of variance 1 per real component, (coils, ...), and its covariance L Lᴴ."""
    factor = torch.randn(shape[0], shape[0], dtype=torch.complex64, generator=generator)
    factor += 3 * torch.eye(shape[0])
    white = randn_like(torch.empty(shape, dtype=torch.complex64), generator)
    return torch.tensordot(factor, white, 1), factor @ factor.mH


def test_covariance_counts_per_real_component(generator: torch.Generator) -> None:
    noise, covariance = coloured((4, 200_000), generator)
    assert torch.allclose(noise_covariance(noise).to(torch.complex64), covariance, rtol=0.02, atol=0.1)


def test_whitened_samples_have_identity_covariance(generator: torch.Generator) -> None:
    noise, _ = coloured((6, 500), generator)
    matrix = whitening_matrix(noise)
    white = noise_covariance(matrix @ noise)
    assert torch.allclose(white, torch.eye(6, dtype=white.dtype), atol=1e-5)
    assert torch.equal(matrix, matrix.tril())


def test_batches_are_whitened_one_by_one(generator: torch.Generator) -> None:
    noise = torch.stack([coloured((3, 100), generator)[0] for _ in range(4)])
    assert torch.allclose(whitening_matrix(noise)[2], whitening_matrix(noise[2]))


def test_noise_around_an_object(generator: torch.Generator) -> None:
    """From k-space of several slices: corner, matrix, white noise of σ = 1 in what was not looked at."""
    noise, covariance = coloured((4, 5, 128, 100), generator)
    image = torch.zeros(5, 1, 128, 100, dtype=torch.complex64)
    image[..., 30:98, 30:70] = 500
    kspace = fourier.fft(image + noise.transpose(0, 1))
    samples = corner_noise(kspace)
    assert samples.shape == (4, 5 * 16 * 12)  # an eighth of either side
    assert corner_noise(kspace, 7).shape == (4, 5 * 49)
    corner = fourier.ifft(kspace)[..., :16, :12].movedim(1, 0).flatten(1)
    assert torch.allclose(samples, corner, atol=1e-5 * 500)
    assert torch.allclose(noise_covariance(samples).to(torch.complex64), covariance, rtol=0.15, atol=1.0)
    white = fourier.ifft(whiten(kspace, whitening_matrix(samples)))
    far = noise_covariance(white[..., -20:, :].movedim(1, 0).flatten(1))
    assert torch.allclose(far, torch.eye(4, dtype=far.dtype), atol=0.15)


def test_thirty_pixels_where_there_is_room(generator: torch.Generator) -> None:
    kspace = randn_like(torch.empty(2, 384, 320, dtype=torch.complex64), generator)
    assert corner_noise(kspace).shape == (2, 900)


def test_noiseless_data_are_refused(head_scan: Tensor) -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.complex64)
    image[:, 20:40, 20:40] = 1
    with pytest.raises(UsageError, match="holds no noise"):
        corner_noise(fourier.fft(image))
    with pytest.raises(UsageError, match="at least 1 pixel"):
        corner_noise(head_scan, 0)


def test_singular_covariance_is_refused_or_loaded(generator: torch.Generator) -> None:
    noise, _ = coloured((4, 300), generator)
    doubled = torch.cat([noise, noise[:1]])
    for faulty in (noise[:, :3], doubled, torch.cat([noise, 0 * noise[:1]]), noise * torch.nan):
        with pytest.raises(UsageError, match="singular: take more samples"):
            whitening_matrix(faulty)
    matrix = whitening_matrix(doubled, loading=0.01)
    assert matrix.isfinite().all()
    white = noise_covariance(matrix @ doubled)
    assert torch.linalg.eigvalsh(white).max() < 1 + 1e-5  # loaded: never more than the identity
