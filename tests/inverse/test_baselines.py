"""Solvers without a prior beside sigpy's own apps and the optimality conditions of their problems."""

from itertools import pairwise

import numpy as np
import pytest
import pywt
import sigpy.mri
import torch
from dense import random

from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task
from mrigen.inverse.sparse import WaveletShrinkage
from mrigen.inverse.tiling import TiledDenoiser, places
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.identity import Identity

SIZE = 16


@pytest.fixture(scope="module")
def task():
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((4, SIZE, SIZE)).astype(np.complex64))[None]
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = torch.zeros(1, 1, 1, SIZE, dtype=torch.bool)
    mask[..., ::3] = mask[..., 6:10] = True
    operator = MultiCoilMRI(maps, mask)
    image = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.complex64)
    image[..., 4:12, 3:13] = 1 + 0.5j
    return Task(Measurements(operator.forward(image), operator, torch.zeros(1)), [0])


def arrays(task):
    y, maps = task.data.y[0].numpy(), task.operator.maps[0].numpy()
    return y, maps, task.operator.mask[0].expand(4, SIZE, SIZE).numpy().astype(np.complex64)


def solve(task, name, **params):
    return SOLVERS.build({"name": name, **params}).solve(task).image


def test_cg_sense_is_that_of_sigpy(task):
    y, maps, weights = arrays(task)
    app = sigpy.mri.app.SenseRecon(y, maps, lamda=0.02, weights=weights, max_iter=50, show_pbar=False)
    found = solve(task, "cg-sense", regularization=0.02, steps=50, tolerance=1e-7)[0, 0].numpy()
    np.testing.assert_allclose(found, app.run(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "app", "more"),
    [
        ("l1-wavelet", sigpy.mri.app.L1WaveletRecon, {"wavelet": "db4", "shifts": 1}),
        ("total-variation", sigpy.mri.app.TotalVariationRecon, {}),
    ],
)
def test_sparse_reconstructions_solve_the_problems_of_sigpy(task, name, app, more):
    """Both algorithms run until they stand still; sigpy finds its own step size."""
    np.random.seed(0)
    y, maps, weights = arrays(task)
    expected = app(y, maps, 0.02, weights=weights, max_iter=800, show_pbar=False).run()
    found = solve(task, name, regularization=0.02, iterations=800, **more)[0, 0].numpy()
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


def test_cg_sense_is_that_of_bart_at_convergence(task, data):
    with np.load(data / "golden" / "bart_baselines.npz") as golden:
        expected = golden["cg_sense"]
    found = solve(task, "cg-sense", regularization=0.02, steps=200, tolerance=1e-7)[0, 0].numpy()
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_total_variation_is_that_of_bart_but_for_its_norm(task, data):
    """BART's gradients are isotropic, Σ √(|∂₁x|² + |∂₂x|²): each is the best of its own objective."""
    with np.load(data / "golden" / "bart_baselines.npz") as golden:
        barts = torch.from_numpy(golden["total_variation"])
    ours = solve(task, "total-variation", regularization=0.02, iterations=1500)[0, 0]

    def objective(x, norm):
        rest = task.operator.forward(x[None, None]) - task.data.y
        gradient = torch.stack([x.roll(-1, axis) - x for axis in (0, 1)])
        return 0.5 * rest.abs().square().sum() + 0.02 * torch.linalg.vector_norm(gradient, norm, 0).sum()

    assert objective(ours, 1) < objective(barts, 1)
    assert objective(barts, 2) < objective(ours, 2)
    assert (ours - barts).norm() < 0.01 * barts.norm()


def test_nothing_depends_on_numpys_global_generator(task):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    solve(task, "l1-wavelet", iterations=3)
    solve(task, "total-variation", iterations=3)
    assert np.array_equal(before, np.random.get_state()[1])


def test_wavelet_denoising_is_soft_thresholding():
    """With A = I the problem has a closed form."""
    y = random(1, 1, 16, 16).float()
    data = Measurements(y, Identity(torch.zeros(1, 1, 16, 16)), torch.zeros(1))
    found = solve(Task(data, [0]), "l1-wavelet", regularization=0.3, wavelet="haar", shifts=1, iterations=60)
    coefficients = pywt.wavedec2(y[0, 0].numpy(), "haar", mode="zero")
    flat, slices = pywt.coeffs_to_array(coefficients)
    shrunk = np.sign(flat) * np.maximum(np.abs(flat) - 0.3, 0)
    back = pywt.waverec2(pywt.array_to_coeffs(shrunk, slices, output_format="wavedec2"), "haar", mode="zero")
    np.testing.assert_allclose(found[0, 0].numpy(), back, atol=1e-3)


def test_shifts_of_the_image_move_its_denoised_one():
    """16 positions along (1, 3) of Haar's grid prefer none of them; one prefers even pixels."""
    y = random(1, 1, 16, 16).float()

    def denoised(y, shifts):
        data = Measurements(y, Identity(torch.zeros(1, 1, 16, 16)), torch.zeros(1))
        params = {"regularization": 0.3, "wavelet": "haar", "iterations": 60}
        return solve(Task(data, [0]), "l1-wavelet", shifts=shifts, **params)

    moved = {
        n: denoised(y.roll((3, 9), (-2, -1)), n) - denoised(y, n).roll((3, 9), (-2, -1)) for n in (1, 16)
    }
    assert moved[16].norm() < 1e-4 * y.norm()
    assert moved[1].norm() > 0.05 * y.norm()


def test_zero_filled_is_the_adjoint(task):
    torch.testing.assert_close(solve(task, "zero-filled"), task.operator.adjoint(task.data.y))


def test_root_sum_of_squares_needs_coils():
    data = Measurements(torch.zeros(1, 1, 4, 4), Identity(torch.zeros(1, 1, 4, 4)), torch.zeros(1))
    with pytest.raises(UsageError, match="combines coil images"):
        solve(Task(data, [0]), "rss")


@pytest.mark.parametrize(("extent", "size"), [(8, 8), (9, 8), (30, 8), (17, 5)])
def test_tiles_cover_everything_and_overlap(extent, size):
    first = places(extent, size)
    assert first[0] == 0
    assert first[-1] == extent - size
    assert all(b - a <= size - max(1, size // 8) for a, b in pairwise(first))


def test_tiles_of_a_local_denoiser_are_the_denoiser():
    """Pixelwise shrinkage does not know where a window ends; what depends on the window does."""
    x = random(2, 1, 20, 23, dtype=torch.complex64)
    sigma = torch.tensor([0.5, 2.0])

    def local(x, sigma, *_):
        return x * (1 / (1 + sigma**2)).view(-1, 1, 1, 1)

    torch.testing.assert_close(TiledDenoiser(local, (8, 6))(x, sigma), local(x, sigma))

    def constant(x, sigma, *_):
        return torch.ones_like(x)

    torch.testing.assert_close(TiledDenoiser(constant, (8, 6))(x, sigma), torch.ones_like(x))


def test_tiles_refuse_a_mask_of_the_whole():
    with pytest.raises(UsageError, match="a mask has no tiles"):
        TiledDenoiser(lambda *_: None, (4, 4))(torch.zeros(1, 1, 8, 8), torch.ones(1), torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize("name", ["l1-wavelet", "total-variation"])
def test_images_of_a_batch_are_those_of_their_own_problems(name):
    """Other maps and noise levels beside an image change neither its step size nor its weight."""
    maps = random(3, 4, 12, 9, dtype=torch.complex64) * torch.tensor([0.3, 1.0, 2.0]).view(-1, 1, 1, 1)
    operator = MultiCoilMRI(maps, torch.rand(3, 1, 12, 9, generator=torch.Generator().manual_seed(0)) < 0.6)
    y = operator.forward(random(3, 1, 12, 9, dtype=torch.complex64))
    sigma = torch.tensor([0.0, 0.1, 0.3])
    every = solve(Task(Measurements(y, operator, sigma), [0, 1, 2]), name, iterations=30)
    for index in range(3):
        data = Measurements(y, operator, sigma)[index : index + 1]
        one = solve(Task(data, [index]), name, iterations=30)
        torch.testing.assert_close(every[index : index + 1], one)


@pytest.mark.parametrize(
    ("shape", "wavelet"), [((32, 32), "sym6"), ((33, 47), "db4"), ((97, 60), "haar"), ((5, 4), "db4")]
)
def test_wavelet_shrinkage_is_that_of_sigpy(shape, wavelet):
    """Several levels, odd sizes and images too small for one level; moduli of complex coefficients shrink."""
    x = random(2, 1, *shape, dtype=torch.complex64)
    transform = sigpy.linop.Wavelet(shape, wave_name=wavelet)
    prox = sigpy.prox.UnitaryTransform(sigpy.prox.L1Reg(transform.oshape, 1.0), transform)
    thresholds = torch.tensor([0.2, 0.5])
    found = WaveletShrinkage(shape, wavelet)(x, thresholds.view(-1, 1, 1, 1))
    for index, t in enumerate(thresholds.tolist()):
        np.testing.assert_allclose(found[index, 0].numpy(), prox(t, x[index, 0].numpy()), atol=2e-6)


def test_wavelets_must_be_orthogonal():
    with pytest.raises(UsageError, match="no orthogonal wavelet; there are"):
        SOLVERS.build({"name": "l1-wavelet", "wavelet": "bior2.2"})


@pytest.mark.parametrize("name", ["l1-wavelet", "total-variation"])
def test_no_regularisation_is_least_squares_where_images_are_zero_too(name):
    """λ = 0 is allowed; a share of a coefficient that is 0 is 0, not the quotient of two zeros."""
    y = torch.zeros(1, 1, 16, 16)
    y[..., 4:8, 4:8] = 1
    data = Measurements(y, Identity(torch.zeros(1, 1, 16, 16)), torch.zeros(1))
    torch.testing.assert_close(solve(Task(data, [0]), name, regularization=0, iterations=400), y)
