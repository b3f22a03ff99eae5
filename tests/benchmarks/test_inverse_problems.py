"""Benchmarks of inverse problems: what they hide, count and judge."""

from types import SimpleNamespace

import gaussians
import numpy as np
import pytest
import torch
from benchmarks import (
    deepinv_peers,
    fine_tuning,
    posterior,
    real_scan,
    reconstruction,
    restoration,
    self_supervised,
)

from mrigen import recipe as recipes
from mrigen.errors import UsageError
from mrigen.operators import Measurements
from mrigen.operators.mri import MultiCoilMRI


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


def test_noise_of_points_put_aside_in_closed_form():
    """Magnitude s of C coils inside, noise of variances v everywhere: √(Σv / (Σv + C s²)) behind a mask."""
    random = torch.Generator().manual_seed(0)
    height, width, signal = 200, 160, 3.0
    variances = torch.tensor([0.5, 2.0, 1.0])
    noise = torch.randn(3, height, width, dtype=torch.complex64, generator=random)
    rows, columns = ((torch.arange(side) - side // 2) / (side / 2) for side in (height, width))
    inside = torch.hypot(rows[:, None], columns) < 0.85
    measured = torch.rand(height, width, generator=random) < 0.5
    kspace = (noise * variances.sqrt()[:, None, None] + signal * inside) * measured
    aside = measured & inside & (torch.rand(height, width, generator=random) < 0.5)
    share = (variances.sum() / (variances.sum() + 3 * signal**2)).sqrt()
    assert real_scan.noise_share(kspace, aside) == pytest.approx(float(share), rel=0.02)
    assert real_scan.noise_share(1e-4 * kspace, aside) == pytest.approx(float(share), rel=0.02)
    with pytest.raises(UsageError, match="nothing was measured at"):
        real_scan.noise_share(kspace * inside, aside)


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
def test_calibration_of_samples_whose_spread_is_known(claimed):
    """Truth and samples are draws of one law, or the samples' deviations are half of it."""
    random = torch.Generator().manual_seed(0)
    deviation = torch.linspace(0.1, 2, 64).repeat(64, 1)

    def drawn(*shape):
        return deviation * torch.randn(*shape, 64, 64, generator=random)

    samples = 8
    batches = [SimpleNamespace(reference=drawn(1, 1)) for _ in range(10)]
    found = reconstruction.calibration([claimed * drawn(1, samples, 1) for _ in batches], batches)
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


def scans(count, sigma=0.0):
    """Smooth images behind two coils and masks of half of the lines, all with the centre."""
    random = torch.Generator().manual_seed(0)
    where = torch.linspace(-1, 1, 16)
    bumps = torch.rand(count, 1, 1, 1, generator=random) * torch.exp(-2 * (where[:, None] ** 2 + where**2))
    maps = torch.stack([0.8 + 0.3 * where.expand(16, 16), (0.6j * where[:, None]).expand(16, 16)])
    mask = torch.rand(count, 1, 1, 16, generator=random) < 0.5
    mask[..., 6:10] = True
    operator = MultiCoilMRI(maps.expand(count, -1, -1, -1).contiguous(), mask)
    truth = (1 + bumps) * torch.exp(0.5j * where)
    clean, level = operator.forward(truth), torch.full((count,), sigma)
    return self_supervised.Slices(
        Measurements(clean + operator.noise(clean, level, random), operator, level), truth
    )


def test_quality_of_images_that_are_off_by_a_known_error():
    truth = scans(3).truth
    largest = truth.abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    row = self_supervised.quality(truth * (1 + 0.1 * largest / truth.abs()), truth)
    assert row["psnr"] == pytest.approx(20, abs=1e-3)
    assert row["psnr_error"] < 1e-3
    assert row["slices"] == 3


def test_solvers_by_words():
    slices = scans(3)
    zero_filled = self_supervised.solve("zero-filled", slices)
    torch.testing.assert_close(zero_filled, slices.data.operator.as_image(slices.data.y))
    better = self_supervised.solve("cg-sense:regularization=0.001", slices)
    quality = self_supervised.quality
    assert quality(better, slices.truth)["psnr"] > quality(zero_filled, slices.truth)["psnr"] + 3


def test_the_peers_operator_is_ours():
    pytest.importorskip("deepinv")
    slices = scans(3)
    physics = self_supervised.physics_of(slices.operator([2, 0]), 0.0)
    images = self_supervised.as_channels(slices.truth[[2, 0]])[:, :, 0]
    torch.testing.assert_close(physics.A(images), self_supervised.as_channels(slices.data.y[[2, 0]]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sigma", [None, 0.1])
@pytest.mark.parametrize("name", self_supervised.PEERS)
def test_peers_learn_from_what_their_losses_may_see(name, sigma):
    """A step changes the weights; the truth matters to the supervised loss and to no other."""
    pytest.importorskip("deepinv")
    slices = scans(4)
    other = self_supervised.Slices(slices.data, 2 * slices.truth)
    weights = []
    for data in (slices, slices, other):
        torch.manual_seed(0)
        peer = self_supervised.Peer(name, 2.0, (16, 16), sigma)
        before = torch.cat([p.detach().flatten() for p in peer.model.parameters()])
        assert peer.train(data, 1e-3, 1e-9) == self_supervised.BATCH
        weights.append(torch.cat([p.detach().flatten() for p in peer.model.parameters()]) - before)
    assert weights[0].abs().max() > 1e-5
    assert torch.equal(weights[0], weights[2]) == (name != self_supervised.SUPERVISED)
    assert peer.restore(slices).shape == slices.truth.shape


@pytest.mark.filterwarnings("ignore")
def test_learned_noise2self_takes_noise_away():
    pytest.importorskip("deepinv")
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(64, 1, 1, 1, generator=random).expand(-1, 1, 8, 8) - 0.5
    noisy = truth + 0.3 * torch.randn(truth.shape, generator=random)
    denoise = deepinv_peers.noise2self(noisy, 64 * 100)
    assert (denoise(noisy) - truth).std() < 0.6 * (noisy - truth).std()


def test_shorter_trainings_keep_the_schedules_proportions():
    own = recipes.load("demo/brain", [])
    images = (own.teacher.images + own.laps.images) // 4
    short = recipes.load("demo/brain", self_supervised.shortened("demo/brain", [], images))
    for before, after in ((own.teacher, short.teacher), (own.laps, short.laps)):
        assert after.images == before.images / 4
        assert after.optimizer.ramp_images == before.optimizer.ramp_images / 4
        assert after.ema_halflife == before.ema_halflife / 4
    with pytest.raises(UsageError, match="has no laps"):
        self_supervised.shortened("toy/digits-inpaint", [], 100)


def test_tables_of_peers_and_of_fine_tuning():
    row = {"setting": "pnp", "seconds_per_slice": 0.5, "psnr": 20.0, "psnr_error": 0.1, "ssim": 0.8}
    rows = [
        {**row, "scenario": "multi-coil", "row": "A"},
        {
            **row,
            "scenario": "noisy",
            "row": "B",
            "setting": "pnp:weight=2",
            "seconds": 9.0,
            "parameters": 1234,
        },
    ]
    lines = self_supervised.table(rows).splitlines()
    assert lines[2] == "| A | 20.00 ± 0.10 / 0.800 | pnp |  |  |  | 500 |"
    assert lines[3] == "| B |  |  | 20.00 ± 0.10 / 0.800 | weight=2 | 1,234 | 500 |"
    assert lines[-1] == "Training of each learned row: noisy 9 s."
    tuned = {**row, "row": "fine-tuned lap-1, rate x 0.1", "psnr": 22.5, "r64": 0.2, "fd_pca_head": 3.0}
    scratch = {**row, "row": fine_tuning.SCRATCH, "r64": 0.5, "fd_pca_head": 4.0}
    said = fine_tuning.table([tuned, scratch]).splitlines()[-1]
    expected = "against from scratch: +2.50 dB, 0.40 of R64, 0.75 of 48 components, head."
    assert said == f"fine-tuned lap-1, rate x 0.1, {expected}"


def test_rows_of_fine_tuning_are_named_after_stages(tmp_path):
    models = [tmp_path / stage / "model" for stage in ("teacher", "lap-1")]
    rows = fine_tuning.starts(models, [0.25, 0.1])
    assert rows["lap-1, as it is"] == fine_tuning.Start(models[1], 0)
    assert rows["fine-tuned teacher, rate x 0.1"] == fine_tuning.Start(models[0], 0.1)
    assert rows["from scratch"] == fine_tuning.Start(None, 1)
    assert len(rows) == 7
    with pytest.raises(UsageError, match="two of the stage teacher"):
        fine_tuning.starts([models[0], tmp_path / "other" / "teacher" / "model"], [0.1])
