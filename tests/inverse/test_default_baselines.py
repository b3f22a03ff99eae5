"""Solvers without a model at their defaults: converged, and better than zero-filled at several noise levels.

Errors are those against images without noise: a fully sampled scan of SNR 5 or 10 shares its noise with the
zero-filled image.
"""

import numpy as np
import pytest
import sigpy.mri
import torch

from mrigen import espirit
from mrigen.cli.main import run
from mrigen.inverse import SOLVERS, Task
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.solve import conjugate_gradient
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.steps import mismatch
from mrigen.reconstruction.scans import ScanSource

SIZE, COILS = 48, 6
BASELINES = ("cg-sense", "total-variation", "l1-wavelet")


def head():
    y, x = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
    image = 1.0 * ((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1) - 0.4 * ((x / 0.6) ** 2 + (y / 0.75) ** 2 < 1)
    for a, b, r, value in ((0.2, 0.3, 0.2, 0.3), (-0.25, -0.2, 0.15, -0.25), (-0.1, 0.4, 0.1, 0.4)):
        image += value * ((x - a) ** 2 + (y - b) ** 2 < r**2)
    return torch.from_numpy(image * np.exp(0.5j * x)).to(torch.complex64)[None, None]


def coils(count=COILS):
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((count, SIZE, SIZE)).astype(np.complex64))[None]
    return maps / maps.abs().square().sum(1, keepdim=True).sqrt()


def lines(step=2, acs=12):
    mask = torch.arange(SIZE) % step == 0
    mask[SIZE // 2 - acs // 2 : SIZE // 2 + acs // 2] = True
    return mask[None, None, None]


def scan(snr, maps=None, step=2):
    operator = MultiCoilMRI(coils() if maps is None else maps, lines(step))
    truth = head()
    sigma = torch.tensor([float(truth.abs()[truth.abs() > 0.1].square().mean().sqrt()) / snr])
    y = operator.forward(truth)
    y = y + operator.noise(y, sigma, torch.Generator().manual_seed(1))
    return Task(Measurements(y, operator, sigma), [0]), truth


def solved(task, name, **params):
    return SOLVERS.build({"name": name, **params}).solve(task).image


def psnr(image, truth):
    return float(20 * torch.log10(truth.abs().max() / (image.abs() - truth.abs()).square().mean().sqrt()))


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("snr", [5, 10, 25, 50, 100])
def test_defaults_beat_zero_filled_by_a_decibel(snr, step):
    task, truth = scan(snr, step=step)
    zero_filled = psnr(solved(task, "zero-filled"), truth)
    for name in BASELINES:
        assert psnr(solved(task, name), truth) > zero_filled + 1, name


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A slice of the bundled head by its SNR, and its undersampled data."""
    folders = {}
    for snr in (5, 10, 25, 50, float("inf")):
        out = tmp_path_factory.mktemp("raw")
        command = f"simulate --out {out} --volumes 1 --slices 1 --matrix 96 96 --coils 8 --jobs 1 --snr {snr}"
        assert run(command.split()) == 0
        folders[snr] = out / "simulated_0000.h5"

    def batch(snr, acceleration):
        options = Options(acceleration=acceleration, acs_lines=16, virtual_coils=0, noise_whitening=False)
        return next(ScanSource(folders[snr], options).batches(1)).with_sigma(None)

    return batch


@pytest.mark.parametrize("acceleration", [2, 3, 4])
@pytest.mark.parametrize("snr", [5, 10, 25, 50])
def test_defaults_beat_zero_filled_on_simulated_heads(simulated, snr, acceleration):
    """Masks, coil maps and noise levels are those that ``mrigen reconstruct`` finds."""
    clean, scan = simulated(float("inf"), acceleration), simulated(snr, acceleration)
    truth, task = clean.reference * clean.scale, Task(scan.data, [0])
    zero_filled = psnr(solved(task, "zero-filled") * scan.scale, truth)
    for name in BASELINES:
        assert psnr(solved(task, name) * scan.scale, truth) > zero_filled + 1, name


@pytest.mark.parametrize("snr", [10, 100])
@pytest.mark.parametrize("name", BASELINES)
def test_defaults_have_converged(name, snr):
    task, _ = scan(snr)
    default = SOLVERS.build({"name": name}).solve(task).image
    more = {"steps": 400, "tolerance": 1e-6} if name == "cg-sense" else {"iterations": 1000}
    longer = SOLVERS.build({"name": name, **more}).solve(task).image
    assert (default - longer).norm() < 0.01 * longer.norm()


def test_total_variation_fills_hidden_pixels():
    """Steps balanced for an exact measurement of 40 % of the pixels."""
    from mrigen.operators.corruption import make_corruption

    truth = head().real
    law = make_corruption({"name": "inpainting", "missing": 0.6}, (1, SIZE, SIZE))
    data = law.measure(truth, torch.Generator().manual_seed(0))
    solve = [
        SOLVERS.build({"name": "total-variation", "iterations": n}).solve(Task(data, [0]))
        for n in (200, 1500)
    ]
    assert (solve[0].image - solve[1].image).norm() < 0.01 * solve[1].image.norm()
    assert psnr(solve[0].image, truth) > psnr(data.operator.as_image(data.y), truth) + 5


@pytest.mark.parametrize("snr", [5, 30])
def test_with_one_weight_cg_sense_is_sigpys_at_convergence(snr):
    task, _ = scan(snr)
    y, maps = task.data.y[0].numpy(), task.operator.maps[0].numpy()
    weights = task.operator.mask[0].expand(COILS, SIZE, SIZE).numpy().astype(np.complex64)
    app = sigpy.mri.app.SenseRecon(y, maps, lamda=0.05, weights=weights, max_iter=200, show_pbar=False)
    found = SOLVERS.build({"name": "cg-sense", "regularization": 0.05}).solve(task).image[0, 0].numpy()
    expected = app.run()
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_smoothness_solves_its_normal_equations():
    task, _ = scan(30)
    x = SOLVERS.build({"name": "cg-sense", "smoothness": 0.2}).solve(task).image
    curvature = 4 * x - sum(x.roll(shift, axis) for shift in (1, -1) for axis in (-2, -1))
    A, y = task.operator, task.data.y
    rest = A.adjoint(A.forward(x) - y) + 0.2 * curvature
    assert rest.norm() < 1e-4 * A.adjoint(y).norm()


def test_the_default_weights_follow_a_first_image():
    """Gradient of ‖A x − y‖² + Σ 2σ² |x|² / (m² + 0.02²) + (σ / 0.2)² ‖∇x‖², m² from a smoother image."""
    task, _ = scan(30)
    A, y, variance = task.operator, task.data.y, float(task.data.sigma) ** 2
    first = solved(task, "cg-sense", smoothness=variance / 0.1**2)
    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    energy = sum(first.abs().square().roll(shift, (-2, -1)) for shift in shifts) / 9
    x = solved(task, "cg-sense")
    curvature = 4 * x - sum(x.roll(shift, axis) for shift in (1, -1) for axis in (-2, -1))
    rest = A.adjoint(A.forward(x) - y) + 2 * variance / (energy + 0.02**2) * x + variance / 0.2**2 * curvature
    assert rest.norm() < 1e-4 * A.adjoint(y).norm()


def test_exact_data_are_not_smoothed():
    task, _ = scan(float("inf"))
    assert SOLVERS.build({"name": "cg-sense", "tolerance": 1e-6}).solve(task).misfit < 1e-4


@pytest.mark.parametrize("steps", [2, 8, 300])
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_conjugate_gradients_stop_where_a_projection_is_solved(steps, tolerance):
    """One coil: AᴴA is a projection, solved in one step; what follows is rounding."""
    maps = torch.ones(1, 1, SIZE, SIZE, dtype=torch.complex64)
    task, _ = scan(20, maps)
    A, y = task.operator, task.data.y
    x = conjugate_gradient(A.normal, A.adjoint(y), steps, tolerance)
    assert (A.forward(x) - y).norm() < 1e-5 * y.norm()
    assert (x - A.adjoint(y)).norm() < 1e-5 * x.norm()
    assert mismatch(y, A) < 1e-5


@pytest.mark.parametrize("steps", [50, 1000])
def test_conjugate_gradients_do_not_leave_a_singular_system(steps):
    """Fewer measured numbers than pixels, and far more steps than float32 can use."""
    operator = MultiCoilMRI(coils(2), lines(4))
    y = operator.forward(head())
    x = conjugate_gradient(operator.normal, operator.adjoint(y), steps, 0.0)
    assert (operator.forward(x) - y).norm() < 1e-2 * y.norm()
    assert x.norm() < 2 * head().norm()


def test_one_default_crop():
    import inspect

    from mrigen.cli.reconstruct import reconstruct

    default = Options.model_fields["espirit_crop"].default
    assert inspect.signature(espirit).parameters["crop"].default == default
    assert inspect.signature(reconstruct).parameters["espirit_crop"].default == default
