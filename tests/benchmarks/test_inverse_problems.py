"""Benchmarks of inverse problems: what they hide, count and judge."""

from types import SimpleNamespace

import gaussians
import numpy as np
import pytest
import torch
from benchmarks import deepinv_peers, posterior, real_scan, reconstruction, restoration

from mrigen.errors import UsageError


def test_cases_share_their_masks_at_all_noise_levels():
    truth = torch.rand(50, 1, 8, 8) * 2 - 1
    clean, noisy = (restoration.Case.draw(truth, 0.8, sigma) for sigma in (0.0, 0.5))
    seen = clean.data.operator.mask
    assert torch.equal(seen, noisy.data.operator.mask)
    assert abs(seen.float().mean() - 0.2) < 0.03
    assert torch.equal(clean.data.y, truth * seen)
    residual = (noisy.data.y - clean.data.y)[seen]
    assert abs(residual.std() - 0.5) < 0.05
    assert (noisy.data.y[~seen] == 0).all()


def test_evaluations_are_counted_by_image():
    network = restoration.Counted(lambda x, sigma: x)
    case = restoration.Case.draw(torch.zeros(4, 1, 8, 8), 0.5, 0.0)

    def run(case):
        for _ in range(3):
            network(case.truth, None)
        return case.truth + 0.2

    row = restoration.measure(case, run, network, None)
    assert row["evaluations"] == 3
    assert abs(row["psnr"] - 20) < 1e-4


def test_a_denoiser_in_units_of_the_peer():
    """D(x, σ) = x / (1 + σ²) of images in [-1, 1], seen from images in [0, 1] with half the noise."""
    unit = deepinv_peers.UnitDenoiser(lambda x, sigma: x / (1 + sigma.view(-1, 1, 1, 1) ** 2))
    u = torch.rand(2, 1, 3, 3)
    torch.testing.assert_close(unit(u, 0.5), ((2 * u - 1) / 2 + 1) / 2)
    torch.testing.assert_close(unit(u, torch.tensor(0.0)), u, atol=1e-5, rtol=0)


def test_points_put_aside_were_measured_and_lie_outside_the_centre():
    random = torch.Generator().manual_seed(0)
    measured = torch.rand(96, 80, generator=random) < 0.3
    kspace = torch.ones(2, 96, 80, dtype=torch.complex64) * measured
    aside = real_scan.put_aside(kspace)
    assert (measured | ~aside).all()
    assert not aside[36:60, 28:52].any()
    outside = measured.clone()
    outside[36:60, 28:52] = False
    assert abs(aside.sum() / outside.sum() - 0.1) < 0.03


def test_samples_of_a_solver_are_near_the_posterior():
    problem = posterior.Problem(0.3)
    judged = problem.judged(problem.samples("mmps:steps=30", 200))
    assert 0.7 < judged["error_over_deviation"] < 1.4


def test_samples_of_the_posterior_are_judged_right():
    problem = posterior.Problem(0.3)
    root = torch.linalg.cholesky(problem.posterior)
    random = torch.Generator().manual_seed(0)
    drawn = problem.mean + torch.randn(20000, 6, dtype=torch.float64, generator=random) @ root.T
    row = problem.judged(drawn)
    for name in ("least", "most", "error_over_deviation"):
        assert abs(row[name] - 1) < 0.03
    assert row["bias"] < 0.03
    narrow = problem.judged(problem.mean + (drawn - problem.mean) / 2)
    assert abs(narrow["least"] - 0.5) < 0.02
    assert narrow["error_over_deviation"] > 1.9


@pytest.mark.parametrize("claimed", [1.0, 0.5])
def test_calibration_of_samples_whose_spread_is_known(monkeypatch, claimed):
    """Truth and samples are draws of one law, or the samples' deviations are half of it."""
    random = torch.Generator().manual_seed(0)
    deviation = torch.linspace(0.1, 2, 64).repeat(64, 1)

    def drawn(*shape):
        return deviation * torch.randn(*shape, 64, 64, generator=random)

    def stub(solver, batch, prior, request, *_):
        images = claimed * drawn(1, request.samples, 1)
        return images, torch.ones(1, request.samples), torch.zeros(1, request.samples)

    monkeypatch.setattr(reconstruction, "solve_batch", stub)
    samples = 8
    some = [SimpleNamespace(reference=drawn(1, 1)) for _ in range(10)]
    found = reconstruction.calibration("dds", some, None, samples)
    # the mean of n claimed draws and the truth: s² (1 + c²/n), over c² s² (1 + 1/n)
    expected = ((1 + claimed**2 / samples) / (claimed**2 * (1 + 1 / samples))) ** 0.5
    assert abs(found["ratio"] - expected) < 0.03 * expected
    assert found["predicted"] == sorted(found["predicted"])
    assert found["error"][-1] > 3 * found["error"][0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ddrm", "diffpir"])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_peers_restore_smooth_images_with_the_exact_denoiser(name, sigma):
    """Missing pixels of Gaussian images, samples all, are closer to the truth than zeros; seen ones stay."""
    pytest.importorskip("deepinv")
    where = torch.arange(8, dtype=torch.float64)
    one = torch.exp(-((where[:, None] - where) ** 2) / 8)
    cov = 0.1 * torch.kron(one, one) + 1e-4 * torch.eye(64)
    random = torch.Generator().manual_seed(0)
    truth = gaussians.sample(cov, 3, (1, 8, 8), random).float()
    case = restoration.Case.draw(truth, 0.4, sigma)
    mask = case.data.operator.mask
    restore = getattr(deepinv_peers, name)
    found = restore(gaussians.exact(cov), case.data.y, mask, sigma, 25)
    seen = mask.expand(truth.shape)
    wrong = (found - truth)[~seen].square().mean()
    assert wrong < 0.7 * truth[~seen].square().mean()
    assert (found - truth)[seen].abs().mean() < 0.05 + sigma


def test_golden_images_are_the_array_of_the_scans_size(tmp_path):
    image = np.random.default_rng(0).random((4, 6)) * np.exp(2j)
    np.savez(tmp_path / "several.npz", maps=np.ones((2, 4, 6)), image=image)
    np.save(tmp_path / "one.npy", image)
    for name in ("several.npz", "one.npy"):
        found = real_scan.golden_magnitude(tmp_path / name, (4, 6))
        np.testing.assert_allclose(found.numpy(), np.abs(image), rtol=1e-6)
    for path in (tmp_path / "one.npy", tmp_path / "none.npy"):
        with pytest.raises(UsageError, match=f"--golden {path}"):
            real_scan.golden_magnitude(path, (6, 4))
