"""Benchmarks of inverse problems: what they hide, count and judge."""

import torch
from benchmarks import deepinv_peers, posterior, real_scan, restoration


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
