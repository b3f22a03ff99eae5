"""Principal components and radial spectra of references: closed forms and invariances."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mrigen.metrics.principal import PrincipalComponents, halves, held_out_energy
from mrigen.metrics.spectra import RadialSpectrum, head_weight


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def smooth(count, rng, side=16):
    coarse = torch.randn(count, 1, 4, 4, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")


@pytest.mark.parametrize("count", [40, 400])
def test_components_are_those_of_a_library(count, rng):
    """More pixels than images and the reverse: the same subspace as scikit-learn's, scores up to their sign."""
    images = torch.randn(count, 1, 16, 16, generator=rng) * torch.linspace(3, 0.1, 256).view(1, 1, 16, 16)
    found = PrincipalComponents.of(images, 20)
    theirs = PCA(20, svd_solver="full").fit(images.flatten(1).double().numpy())
    np.testing.assert_allclose((found.components @ found.components.T), np.eye(20), atol=1e-10)
    overlap = np.abs((found.components.numpy() * theirs.components_).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    np.testing.assert_allclose(found.scores(images, 20).var(0), theirs.explained_variance_, rtol=1e-10)


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


def test_distance_of_scaled_and_shifted_images(rng):
    """Scores scaled by s from the mean: Σ λ (s − 1)²; moved along a component by b: b²."""
    images = smooth(200, rng)
    found = PrincipalComponents.of(images)
    mean = found.mean.view(1, 1, 16, 16)
    scaled = mean + 1.5 * (images - mean)
    variance = float(found.scores(images).var(0).sum())
    assert found.distance(scaled, images) == pytest.approx(0.25 * variance, rel=1e-6)
    moved = images + 2 * found.components[3].view(1, 1, 16, 16)
    assert found.distance(moved, images) == pytest.approx(4, rel=1e-6)
    assert found.distance(images, images) == pytest.approx(0, abs=1e-6 * variance)


def test_magnitudes_are_taken_of_complex_images(rng):
    images = smooth(50, rng)
    turned = images * torch.exp(1j * torch.rand(50, 1, 1, 1, generator=rng) * 6)
    a, b = PrincipalComponents.of(images.abs()), PrincipalComponents.of(turned)
    np.testing.assert_allclose(a.energy_outside(images.abs()), b.energy_outside(turned), atol=1e-6)
    one, two = RadialSpectrum.of(images.abs()), RadialSpectrum.of(turned)
    np.testing.assert_allclose(one.power, two.power, rtol=1e-5)


def test_held_out_energy_sees_what_the_other_half_lacks(rng):
    """Noise that is its own in each image is inside the components of those images, and outside for others."""
    images = smooth(64, rng) + torch.randn(64, 1, 16, 16, generator=rng)
    half = halves(64)
    assert half.tolist() == ([True] * 8 + [False] * 8) * 4
    own = PrincipalComponents.of(images[half]).energy_outside(images[half])
    assert float(own.mean()) < 1e-10
    expected = PrincipalComponents.of(images[half]).energy_outside(images[~half])
    np.testing.assert_allclose(held_out_energy(images)[~half], expected)
    assert float(expected.mean()) > 0.3


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
    ratio = base.ratios(wave)[0]
    assert int(ratio.argmax()) == 4  # |k| = 5 of bands that begin at 1, 1.4, 2, 2.8, 4, 5.7 ...
    assert float(ratio.sum() - ratio.max()) < 1e-6
    twice = base.high_frequency_ratio(2 * noise).mean()
    assert float(twice) == pytest.approx(4, rel=1e-6)
    assert base.log_distance(2 * noise) == pytest.approx(10 * np.log10(4), rel=1e-6)
    assert base.log_distance(noise) == pytest.approx(0, abs=1e-9)


def test_high_frequencies_begin_beyond_a_quarter_of_the_pixels(rng):
    """A wave of k = 8 of 32 is not one of them, k = 9 is, in any direction and on other grids too."""
    base = RadialSpectrum.of(torch.randn(50, 1, 32, 64, generator=rng))
    for axis, size in ((-1, 64), (-2, 32)):
        for k, beyond in ((size // 4, False), (size // 4 + 1, True)):
            phase = 2 * torch.pi * k * torch.arange(size) / size
            wave = torch.cos(phase)[None if axis == -1 else slice(None), None if axis == -2 else slice(None)]
            wave = wave.expand(1, 1, 32, 64)
            assert (float(base.high_frequency_ratio(wave)) > 0.1) is beyond


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
    outside_only = heads + torch.where(radius > 30, 1.0, 0.0)
    assert inside.distance(outside_only, heads) == pytest.approx(0, abs=1e-3)
    assert PrincipalComponents.of(heads).distance(outside_only, heads) > 0.1
