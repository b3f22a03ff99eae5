"""Principal components and radial spectra of references: closed forms and invariances."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.memorisation import copied_share
from mrigen.metrics.principal import PrincipalComponents, held_out
from mrigen.metrics.spectra import ImageStatistics, RadialSpectrum, head_weight, log_distance


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def smooth(count, rng, side=16):
    coarse = torch.randn(count, 1, 4, 4, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")


@pytest.mark.parametrize("count", [40, 400])
def test_components_are_those_of_a_library(count, rng):
    """More pixels than images and the reverse: the same components as scikit-learn's."""
    images = torch.randn(count, 1, 16, 16, generator=rng) * torch.linspace(3, 0.1, 256).view(1, 1, 16, 16)
    found = PrincipalComponents.of(images, 20)
    theirs = PCA(20, svd_solver="full").fit(images.flatten(1).double().numpy())
    np.testing.assert_allclose((found.components @ found.components.T), np.eye(20), atol=1e-10)
    overlap = np.abs((found.components.numpy() * theirs.components_).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    scores = found.features(images)[:, :-1]
    np.testing.assert_allclose(scores.var(0), theirs.explained_variance_, rtol=1e-10)


def test_no_more_components_than_the_images_span(rng):
    images = smooth(30, rng)
    found = PrincipalComponents.of(images)
    assert len(found) == 16
    assert float(found.energy_outside(images).max()) < 1e-10
    assert len(PrincipalComponents.of(images[:9])) == 8


def test_energy_of_white_noise_outside_is_the_share_of_dimensions(rng):
    """Of white noise, (d − k) / d of the energy lies outside k of d dimensions."""
    found = PrincipalComponents.of(smooth(100, rng), 12)
    noise = found.mean.view(1, 1, 16, 16) + torch.randn(4000, 1, 16, 16, generator=rng)
    assert float(found.energy_outside(noise).mean()) == pytest.approx(1 - 12 / 256, abs=1e-3)
    assert float(found.energy_outside(found.mean.view(1, 1, 16, 16))) == pytest.approx(0, abs=1e-12)


def test_features_keep_the_distance_from_the_mean(rng):
    """The squares of the features add up to ‖image − mean‖², whatever is in the image."""
    found = PrincipalComponents.of(smooth(100, rng), 12)
    images = torch.randn(50, 1, 16, 16, generator=rng)
    features = found.features(images)
    assert features.shape == (50, 13)
    expected = (images.flatten(1) - found.mean).square().sum(1)
    np.testing.assert_allclose(features.square().sum(1), expected, rtol=1e-10)


def test_distance_of_scaled_and_moved_images(rng):
    """Of images in the components' span: scaled by s, Σ λ (s − 1)²; moved by b along a component, b²."""
    images = smooth(200, rng)
    found = PrincipalComponents.of(images)
    mean = found.mean.view(1, 1, 16, 16)
    variance = float(found.features(images).var(0).sum())
    assert found.distance(mean + 1.5 * (images - mean), images) == pytest.approx(0.25 * variance, rel=1e-5)
    moved = images + 2 * found.components[3].view(1, 1, 16, 16)
    assert found.distance(moved, images) == pytest.approx(4, rel=1e-5)
    assert found.distance(images, images) == pytest.approx(0, abs=1e-5 * variance)


def test_noise_off_the_components_moves_the_norm_of_the_rest(rng):
    """Orthogonal to all components, noise of norm b changes nothing but the last feature: b²."""
    images = smooth(200, rng)
    found = PrincipalComponents.of(images)
    noise = torch.randn(200, 256, generator=rng).double()
    noise -= noise @ found.components.T @ found.components
    noisy = images.double() + 3 * (noise / noise.norm(dim=1, keepdim=True)).view(200, 1, 16, 16)
    assert found.distance(noisy, images) == pytest.approx(9, rel=1e-4)


def test_magnitudes_are_taken_of_complex_images(rng):
    images = smooth(50, rng)
    turned = images * torch.exp(1j * torch.rand(50, 1, 1, 1, generator=rng) * 6)
    a, b = PrincipalComponents.of(images.abs()), PrincipalComponents.of(turned)
    np.testing.assert_allclose(a.energy_outside(images.abs()), b.energy_outside(turned), atol=1e-6)
    one, two = RadialSpectrum.of(images.abs()), RadialSpectrum.of(turned)
    np.testing.assert_allclose(one.power, two.power, rtol=1e-5)


def test_references_are_left_out_of_the_components_that_judge_them(rng):
    """Noise of its own in each image lies inside their own components, outside those of others."""
    images = smooth(64, rng) + torch.randn(64, 1, 16, 16, generator=rng)
    whole = PrincipalComponents.of(images)
    assert float(whole.energy_outside(images).max()) < 1e-10
    features, energy = held_out(images, whole)
    of_others = PrincipalComponents.of(torch.cat([images[:8], images[16:]]))
    np.testing.assert_allclose(energy[8:16], of_others.energy_outside(images[8:16]))
    np.testing.assert_allclose(features[8:16, -1], of_others.features(images[8:16])[:, -1])
    np.testing.assert_allclose(features[:, :-1], whole.features(images)[:, :-1])
    others = smooth(64, rng) + torch.randn(64, 1, 16, 16, generator=rng)
    assert float(energy.mean()) == pytest.approx(float(whole.energy_outside(others).mean()), rel=0.1)


def test_principal_features_are_a_feature_space(rng):
    """The reference's distance is that of the components, for real and complex images."""
    images, others = smooth(40, rng), smooth(30, rng)
    for turn in (1, torch.exp(1j * torch.rand(1, generator=rng))):
        reference = Reference.of(images * turn, extractor("pca"))
        expected = PrincipalComponents.of(images * turn).distance(others * turn, images * turn)
        assert reference.distance((others * turn).split(7)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="need references"):
        extractor("pca")([images])


@pytest.mark.parametrize("bad", [torch.zeros(1, 1, 8, 8), torch.full((4, 1, 8, 8), torch.nan)])
def test_useless_references_are_refused(bad):
    with pytest.raises(ValueError, match="at least two images of finite pixels"):
        PrincipalComponents.of(bad)


def test_spectrum_of_waves_and_noise(rng):
    """A wave's power is in the band of its |k|; white noise of deviation s adds s² to every band."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    noise = torch.randn(2000, 1, 32, 32, generator=rng)
    base = RadialSpectrum.of(noise)
    np.testing.assert_allclose(base.power, 1, rtol=0.05)
    assert base.high == pytest.approx(1, rel=0.02)
    wave = torch.cos(2 * torch.pi * (3 * x + 4 * y) / 32)[None, None]
    ratio = base.ratios(wave)[0][0]
    assert int(ratio.argmax()) == 4  # |k| = 5 of bands that begin at 1, 1.4, 2, 2.8, 4, 5.7 ...
    assert float(ratio.sum() - ratio.max()) < 1e-6
    bands, high = base.ratios(2 * noise)
    assert float(high.mean()) == pytest.approx(4, rel=1e-6)
    assert log_distance(bands) == pytest.approx(10 * np.log10(4), rel=1e-6)
    assert log_distance(base.ratios(noise)[0]) == pytest.approx(0, abs=1e-9)


def test_high_frequencies_begin_beyond_a_quarter_of_the_pixels(rng):
    """A wave of k = 8 of 32 is not one of them, k = 9 is, in any direction and on other grids too."""
    base = RadialSpectrum.of(torch.randn(50, 1, 32, 64, generator=rng))
    for axis, size in ((-1, 64), (-2, 32)):
        for k, beyond in ((size // 4, False), (size // 4 + 1, True)):
            phase = 2 * torch.pi * k * torch.arange(size) / size
            wave = torch.cos(phase)[None if axis == -1 else slice(None), None if axis == -2 else slice(None)]
            wave = wave.expand(1, 1, 32, 64)
            assert (float(base.ratios(wave)[1]) > 0.1) is beyond


def test_images_without_bands_are_refused():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        RadialSpectrum.of(torch.zeros(4, 1, 1, 2))


def test_a_heads_weight_covers_the_head(rng):
    """A bright ring with a dark middle and noise around it: all of the disc, nothing of the corners."""
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    radius = torch.hypot(y, x)
    heads = ((radius < 20) & (radius > 6)).float() * (1 + 0.2 * torch.randn(20, 1, 1, 1, generator=rng))
    heads = heads + 0.05 * torch.randn(20, 1, 64, 64, generator=rng).abs()
    weight = head_weight(heads)
    assert float(weight[radius < 14].min()) > 0.99
    assert float(weight[radius > 30].max()) < 0.01
    inside = PrincipalComponents.of(heads, weight=weight)
    framed = heads + (radius > 32).float()
    assert inside.distance(framed, heads) == pytest.approx(inside.distance(heads, heads), abs=1e-3)
    assert PrincipalComponents.of(heads).distance(framed, heads) > 100


def test_numbers_of_images_have_twins_of_the_head_and_intervals(rng):
    """Noise in the background alone leaves the numbers of the head, and the interval holds the number."""
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    radius = torch.hypot(y, x)

    def slices(count):
        texture = 1 + 0.3 * torch.nn.functional.interpolate(
            torch.randn(count, 1, 8, 8, generator=rng), size=(32, 32), mode="bicubic"
        )
        return ((radius < 9) * texture + 0.01 * torch.randn(count, 1, 32, 32, generator=rng)).to(
            torch.complex64
        )

    references, images = slices(80), slices(60)
    numbers = ImageStatistics.of(references)
    clean = numbers.row(images.split(20), resamples=50)
    noise = 0.1 * torch.randn(60, 1, 32, 32, generator=rng) * (radius > 13)
    noisy = numbers.row([images + noise], resamples=0)
    for name in ("energy_outside", "high_frequency_ratio", "log_spectral_distance"):
        assert noisy[name] > 1.1 * clean[name]
        assert noisy[f"{name}_head"] == pytest.approx(clean[f"{name}_head"], rel=0.05)
        low, high = clean[f"{name}_interval"]
        assert low < clean[name] < high
        assert f"{name}_interval" not in noisy
    assert clean["high_frequency_ratio"] == pytest.approx(1, abs=0.1)
    assert clean["energy_outside"] == pytest.approx(numbers.held_out["energy_outside"], rel=0.3)
    head = PrincipalComponents.of(references, weight=head_weight(references))
    assert clean["fd_pca_head"] == pytest.approx(head.distance(images, references), rel=1e-6)
    assert set(ImageStatistics.of(references.abs()).held_out) == {"energy_outside"}
    assert ImageStatistics.of(torch.zeros(4, 1, 1, 2)) is None


def test_copies_are_counted(rng):
    """One in a hundred of unseen images counts as a copy, and every copy does, turned by rounding or not."""
    training, unseen, fresh = (torch.randn(500, 8, generator=rng) for _ in range(3))
    assert copied_share(fresh, training, unseen) < 0.04
    mixed = torch.cat([fresh[:300], training[:200] + 1e-4])
    assert copied_share(mixed, training, unseen) == pytest.approx(0.4, abs=0.03)
