"""Fréchet distance: closed form, invariances, parity with torch-fidelity; the random extractor."""

import numpy as np
import pytest
import torch

from mrigen.metrics.distance import Reference
from mrigen.metrics.frechet import Statistics, frechet_distance, statistics
from mrigen.metrics.rendering import magnitude_window, pictures, quantile


def test_closed_form_of_commuting_gaussians():
    """|μ|² + Σ (√a_i - √b_i)² for diagonal covariances."""
    rng = np.random.default_rng(0)
    a, b, mean = rng.random(6), rng.random(6), rng.standard_normal(6)
    basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    one = Statistics(np.zeros(6), basis @ np.diag(a) @ basis.T, 10)
    two = Statistics(mean, basis @ np.diag(b) @ basis.T, 10)
    expected = mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(two, one) == pytest.approx(expected, rel=1e-10)


def test_zero_for_equal_sets_and_rank_deficient_ones():
    few = statistics(np.random.default_rng(0).standard_normal((5, 20)))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_parity_with_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((500, 12)), 0.5 + 1.3 * rng.standard_normal((400, 12))
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(v)) for v in (a, b)), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.full((4, 3), np.nan)])
def test_useless_features_are_refused(bad):
    with pytest.raises(ValueError, match="at least two samples"):
        statistics(bad)


def test_random_features_are_the_same_on_every_machine(r64):
    """A regression value: a changed initialisation would make distances incomparable."""
    ramp = torch.arange(32 * 32, dtype=torch.float32).view(1, 1, 32, 32) / 4
    images = ramp.to(torch.uint8).expand(1, 3, -1, -1)
    found = r64([images])["r64"][0]
    assert found.shape == (64,)
    np.testing.assert_allclose(np.linalg.norm(found), 2.5279, rtol=1e-3)
    np.testing.assert_allclose(found[:3], [-0.2141, -0.2078, -0.0428], rtol=5e-3)


def test_random_features_rank_degradations(r64):
    """Blurred, noisy and collapsed copies are farther away than another half of the same set."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")

    def discs(count):
        centre = 10 + 12 * torch.rand(count, 2, 1, 1, generator=generator)
        radius = 4 + 6 * torch.rand(count, 1, 1, generator=generator)
        return ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < radius**2).float()[
            :, None
        ] * 2 - 1

    a, b = discs(100), discs(100)
    reference = Reference.of(a, r64)
    floor = reference.distance([b])
    blurred = torch.nn.functional.avg_pool2d(b, 5, 1, 2)
    noisy = b + 0.5 * torch.randn(b.shape, generator=generator)
    collapsed = b[:2].repeat(50, 1, 1, 1)
    for worse in (blurred, noisy, collapsed):
        assert reference.distance([worse]) > 2 * floor


def test_small_images_are_enlarged(r64):
    assert r64([torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])["r64"].shape == (2, 64)


def test_distance_does_not_depend_on_batches(r64):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 32, 32, generator=generator) * 2 - 1
    reference = Reference.of(images, r64)
    other = torch.rand(40, 1, 32, 32, generator=generator)
    assert reference.distance([other]) == pytest.approx(reference.distance(other.split(7)), rel=1e-3)


def test_magnitudes_are_windowed_to_the_reference():
    """Values at the window become white, the phase is ignored, and scaling both changes nothing."""
    images = torch.polar(torch.linspace(0, 2, 400), torch.linspace(0, 6, 400)).view(4, 1, 10, 10)
    window = magnitude_window(images)
    assert window == pytest.approx(2 * 0.99, rel=2e-3)
    shown = pictures(images, window)
    assert shown.shape == (4, 3, 10, 10)
    assert shown.max() == 255
    expected = (images.abs() / window * 255).round().clamp(max=255).to(torch.uint8)
    assert torch.equal(shown[:, :1], expected)
    assert torch.equal(pictures(3 * images, magnitude_window(3 * images)), shown)


def test_natural_images_map_from_minus_one_to_one():
    images = torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    assert pictures(images)[:, 0, 0, 0].tolist() == [0, 128, 255, 255]


def test_complex_images_need_a_window():
    with pytest.raises(ValueError, match="window"):
        pictures(torch.zeros(1, 1, 2, 2, dtype=torch.complex64))


def test_quantile_of_long_vectors():
    values = torch.arange(10_001.0).flip(0)
    assert quantile(values, 0.99) == 9900


def test_percentile_of_0_99_is_not_the_99th():
    """The published evaluation's numpy.percentile(x, 0.99) is next to the smallest magnitude."""
    magnitudes = np.linspace(0, 1, 10_001)
    assert np.percentile(magnitudes, 0.99) == pytest.approx(0.0099)
    assert magnitude_window(torch.from_numpy(magnitudes)) == pytest.approx(0.99)


def test_a_distance_of_100_samples_hides_which_law_is_nearer():
    """64 features: the law itself with n = 100 is farther than one of 0.7 of its size with 50,000."""
    rng = np.random.default_rng(0)
    reference = statistics(rng.standard_normal((50_000, 64)))

    def distance(scale, count):
        return frechet_distance(statistics(scale * rng.standard_normal((count, 64))), reference)

    true, far, few = distance(1, 50_000), distance(0.7, 50_000), distance(1, 100)
    assert true < 0.2
    assert far == pytest.approx(64 * 0.3**2, rel=0.02)
    assert few > far
    assert few == pytest.approx(distance(1, 100), rel=0.2)
