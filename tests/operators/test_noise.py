"""Laws of the noise level, in a recipe's words, and its estimation where nobody knows it."""

import math

import numpy as np
import pytest
import torch

from mrigen.data.noise_estimate import estimate_sigma
from mrigen.errors import UsageError
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise, parse_noise


@pytest.mark.parametrize(
    ("word", "law"),
    [
        (0.2, Noise(low=0.2)),
        ("0.2", Noise(low=0.2)),
        ("2e-1", Noise(low=0.2)),
        (0, Noise()),
        ([0.1, 0.3], Noise(low=0.1, high=0.3)),
        (("0.1", 0.3), Noise(low=0.1, high=0.3)),
        ({"low": 0.1, "high": 0.3}, Noise(low=0.1, high=0.3)),
        (Noise(low=0.4), Noise(low=0.4)),
        ("unknown", None),
    ],
)
def test_words_for_noise(word, law):
    assert parse_noise(word) == law


@pytest.mark.parametrize(
    "word", [-0.1, [0.3, 0.1], [0.1], [0.1, 0.2, 0.3], "much", None, {"sigma": 1}, math.nan, math.inf]
)
def test_other_words_are_refused_in_one_line(word):
    with pytest.raises(UsageError, match="give σ") as caught:
        parse_noise(word)
    assert "\n" not in str(caught.value)


def test_levels_are_uniform_between_their_bounds(generator):
    sigma = Noise(low=0.1, high=0.5).draw(20_000, generator)
    assert 0.1 <= sigma.min() < sigma.max() <= 0.5
    assert float(sigma.mean()) == pytest.approx(0.3, abs=0.004)
    assert float(sigma.std()) == pytest.approx(0.4 / 12**0.5, abs=0.003)
    assert torch.equal(Noise(low=0.3).draw(4, generator), torch.full((4,), 0.3))


def test_only_noise_is_true():
    assert not Noise()
    assert Noise(low=0.1)
    assert Noise(low=0, high=0.1)


def test_the_noise_of_a_measurement_has_the_level_of_its_sample(generator):
    corruption = make_corruption({"name": "identity"}, (3, 64, 64), Noise(low=0.1, high=0.4))
    batch = corruption.measure(torch.zeros(30, 3, 64, 64), generator)
    spread = batch.y.flatten(1).std(1)
    assert ((spread / batch.sigma - 1).abs() < 0.04).all()
    assert batch.sigma.max() - batch.sigma.min() > 0.2


def smooth(count: int, size: int, generator) -> torch.Tensor:
    """Blurred noise in [-1, 1]: images with a low spectrum, as photographs have."""
    blur = make_corruption({"name": "gaussian-blur", "size": 15, "std": 3}, (3, size, size)).draw(
        1, generator
    )
    x = blur.forward(torch.randn(count, 3, size, size, generator=generator))
    return x / x.abs().amax((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.3])
def test_the_noise_of_smooth_images_is_found_from_above(sigma, generator):
    x = smooth(120, 32, generator)
    y = x + sigma * torch.randn(x.shape, generator=generator)
    estimate = estimate_sigma(y)
    assert estimate.images == 120
    assert estimate_sigma(y[:3]) == estimate_sigma(y[:3].numpy())
    assert estimate.low <= estimate.sigma <= estimate.high
    assert sigma < estimate.low
    assert estimate.high < 1.15 * sigma


def test_with_100_images_it_is_the_largest_estimate(generator):
    """skimage's estimate of each image, averaged over its colours."""
    from skimage.restoration import estimate_sigma as of_one

    y = smooth(100, 24, generator) + 0.2 * torch.randn(100, 3, 24, 24, generator=generator)
    each = sorted(of_one(image.double().numpy(), average_sigmas=True, channel_axis=0) for image in y)
    estimate = estimate_sigma(y)
    assert estimate.sigma == pytest.approx(each[-1])
    assert estimate.high == estimate.sigma
    assert estimate.low == pytest.approx(each[96])


def test_the_interval_covers_the_maximum_of_95_percent_of_trials(generator):
    """DCD's trials, the maximum over 100 images drawn at random, done with a random generator."""
    y = 0.2 * torch.randn(250, 1, 16, 16, generator=generator)
    estimate = estimate_sigma(y)
    each = np.array([estimate_sigma([image]).sigma for image in y])
    trials = np.random.default_rng(0).choice(each, (4000, 100)).max(1)
    assert np.median(trials) == estimate.sigma
    outside = np.mean((trials < estimate.low) | (trials > estimate.high))
    assert outside <= 0.06
    assert np.mean(trials <= estimate.low) >= 0.015


def test_scaling_the_images_scales_the_estimate(generator):
    y = torch.randn(20, 16, 16, generator=generator).double()
    assert estimate_sigma(3 * y).sigma == pytest.approx(3 * estimate_sigma(y).sigma)


def test_images_without_detail_tell_nothing(generator):
    flat = [torch.full((1, 16, 16), 0.5)] * 3
    assert estimate_sigma([*flat, 0.1 * torch.randn(1, 16, 16, generator=generator)]).images == 1
    for nothing in (flat, []):
        with pytest.raises(UsageError, match="give noise as a number"):
            estimate_sigma(nothing)


def test_two_estimates_agree_on_white_noise(generator):
    x = smooth(60, 32, generator)
    estimate = estimate_sigma(x + 0.2 * torch.randn(x.shape, generator=generator))
    assert estimate.patches == pytest.approx(0.2, rel=0.05)
    assert estimate_sigma(0.2 * torch.randn(3, 16, 16, generator=generator)).patches is None


def test_small_images_are_refused_with_both_estimates(generator):
    """Digits of 8 x 8 with noise of 0.5: wavelets see the digits."""
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().images / 8 - 1)[:, None]
    with pytest.raises(UsageError, match="8 pixels on a side, fewer than 16") as refused:
        estimate_sigma(x + 0.5 * torch.randn(x.shape, generator=generator))
    wavelets, patches = (float(part.split(",")[0].split(";")[0]) for part in _numbers(str(refused.value)))
    assert wavelets > 0.8
    assert patches == pytest.approx(0.5, rel=0.15)


def _numbers(message):
    return message.split("σ is ")[1].split(",")[0], message.split("patches ")[1]


def test_noise_that_is_not_white_is_refused(generator):
    blur = make_corruption({"name": "gaussian-blur", "size": 5, "std": 0.7}, (3, 32, 32)).draw(1, generator)
    y = smooth(60, 32, generator) + blur.forward(torch.randn(60, 3, 32, 32, generator=generator))
    with pytest.raises(UsageError, match="their noise is not white: give noise as a number"):
        estimate_sigma(y)
