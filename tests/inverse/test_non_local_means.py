"""Non-local means in closed form, and the reconstruction that uses them."""

import numpy as np
import pytest
import torch
from dense import random
from torch.nn import functional

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.inverse.plug_and_play import non_local_means
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.identity import Identity

SIZE = 48


def solve(task, name="non-local-means", **params):
    return SOLVERS.build({"name": name, **params}).solve(task).image


def disc():
    """A piecewise constant head, (1, 1, SIZE, SIZE), complex."""
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    radius = torch.hypot(rows, 1.2 * columns)
    image = 0.9 * (radius < 0.9).float() - 0.4 * (radius < 0.7).float()
    image += 0.3 * (torch.hypot(rows + 0.2, columns - 0.2) < 0.25).float()
    return torch.complex(image, torch.zeros_like(image))[None, None]


def scan(image, sigma=0.02):
    """Every second line of three coils with noise, and those in the centre."""
    mask = torch.zeros(1, 1, 1, SIZE, dtype=torch.bool)
    mask[..., ::2] = mask[..., SIZE // 2 - 6 : SIZE // 2 + 6] = True
    coils = torch.exp(1j * torch.linspace(0, 3, SIZE))[None] * torch.tensor([[1.0], [0.7], [-0.4]])
    maps = (coils / coils.abs().square().sum(0).sqrt())[None, :, None].expand(1, 3, SIZE, SIZE)
    operator = MultiCoilMRI(maps.to(torch.complex64), mask)
    noise = torch.complex(random(1, 3, SIZE, SIZE, seed=1), random(1, 3, SIZE, SIZE, seed=2))
    y = operator.forward(image) + sigma * mask * noise.to(torch.complex64)
    return Task(Measurements(y, operator, torch.full((1,), sigma)), [0])


def test_patches_are_compared_by_their_mean_squared_difference():
    """One pixel of a complex image, written out."""
    x = torch.complex(random(1, 1, 11, 13), random(1, 1, 11, 13, seed=1))
    sigma, h, row, column = 0.5, 0.5 * 0.8, 5, 6
    values, weights = [], []
    for down in range(-3, 4):
        for right in range(-3, 4):
            here, there = (
                x[0, 0, r - 1 : r + 2, c - 1 : c + 2]
                for r, c in ((row, column), (row + down, column + right))
            )
            apart = float((here - there).abs().square().mean()) / 2
            weights.append(np.exp(-max(apart - 2 * sigma**2, 0) / h**2))
            values.append(complex(x[0, 0, row + down, column + right]))
    found = non_local_means(x, sigma, patch=3, radius=3, strength=0.8)[0, 0, row, column]
    np.testing.assert_allclose(complex(found), np.average(values, weights=weights))


def test_all_pixels_of_the_window_count_alike_where_noise_explains_everything():
    x = random(2, 1, 9, 11, dtype=torch.float32)
    expected = functional.avg_pool2d(functional.pad(x, (3,) * 4, mode="reflect"), 7, 1)
    torch.testing.assert_close(non_local_means(x, 1e4, radius=3), expected)


def test_images_without_noise_stay_as_they_are():
    x = random(1, 1, 9, 11, dtype=torch.float32)
    torch.testing.assert_close(non_local_means(x, 1e-3), x)


def test_a_window_larger_than_the_image_is_cut():
    x = random(1, 1, 3, 4, dtype=torch.float32)
    assert non_local_means(x, 1e4, radius=9).std() < 0.2 * x.std()


def test_a_common_phase_goes_through():
    x = torch.complex(random(1, 1, 12, 12), random(1, 1, 12, 12, seed=1))
    turned = non_local_means(x * np.exp(0.7j), 0.5)
    torch.testing.assert_close(turned, non_local_means(x, 0.5) * np.exp(0.7j))


def test_a_smooth_phase_hides_nothing():
    """Patches of tissue are alike although their phase is not; compared with their phase they are less so."""
    image = disc()
    phase = torch.exp(4j * torch.linspace(-1, 1, SIZE).square())
    tasks = scan(image), scan(image * phase)
    errors = {
        smoothing: [
            float((solve(task, smoothing=smoothing).abs() - image.abs()).norm() / image.norm())
            for task in tasks
        ]
        for smoothing in (4.0, None)
    }
    plain, turned = errors[4.0]
    assert turned < 1.05 * plain
    assert turned < 0.95 * errors[None][1]


def test_scans_are_nearer_than_by_wavelets_and_conjugate_gradients():
    image, found = disc(), {}
    task = scan(image)
    for name in ("non-local-means", "l1-wavelet", "cg-sense"):
        found[name] = float((solve(task, name) - image).norm() / image.norm())
    assert found["non-local-means"] < 0.8 * min(found["l1-wavelet"], found["cg-sense"])


def test_the_data_decide_where_the_weight_vanishes():
    task = scan(disc(), sigma=0.0)
    found = solve(task, noise=0.0)
    torch.testing.assert_close(task.operator.forward(found), task.data.y, atol=2e-3, rtol=0)


def test_real_images_are_denoised():
    image = disc().real
    noisy = image + 0.1 * random(*image.shape, dtype=torch.float32)
    task = Task(Measurements(noisy, Identity(torch.zeros_like(image)), torch.full((1,), 0.1)), [0])
    found = solve(task, weight=3.0, sigma_max=0.1, sigma_min=0.1, steps=3)
    assert (found - image).square().mean() < 0.3 * (noisy - image).square().mean()


def test_a_low_pass_of_the_phase_keeps_a_plane_wave():
    """The phase that is taken out of a slow wave is its own, so that patches of it are constant."""
    wave = torch.exp(2j * torch.pi * torch.arange(32) / 32).expand(1, 1, 32, 32)
    noisy = wave + 0.1 * torch.complex(random(1, 1, 32, 32), random(1, 1, 32, 32, seed=3))
    task = Task(
        Measurements(
            fourier.fft(noisy)[:, 0, None],
            MultiCoilMRI(torch.ones(1, 1, 32, 32) + 0j, torch.ones(1, 1, 1, 32, dtype=torch.bool)),
            torch.full((1,), 0.1),
        ),
        [0],
    )
    found = solve(task, weight=3.0, sigma_max=0.1, sigma_min=0.1, steps=3)
    assert (found - wave).abs().square().mean() < 0.2 * (noisy - wave).abs().square().mean()


def test_patches_have_a_pixel_in_the_middle():
    with pytest.raises((UsageError, ValueError), match="must be odd"):
        SOLVERS.build({"name": "non-local-means", "patch": 4})
