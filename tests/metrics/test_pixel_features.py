"""Pixels as features: Fréchet distances that can be worked out from the images themselves."""

import sys

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.frechet import frechet_distance, statistics
from mrigen.metrics.rendering import pictures

STEP = 2 / 255


def byte_images(seed, *shape):
    """Random images whose values are those of bytes, so that pictures lose nothing."""
    values = torch.randint(60, 196, shape, generator=torch.Generator().manual_seed(seed))
    return values.float() / 127.5 - 1


def distance(images, references):
    return Reference.of(references, extractor("pixels")).distance([images])


def test_distance_of_grey_images_is_that_of_their_pixels():
    a, b = byte_images(0, 80, 1, 4, 4), 0.5 * byte_images(1, 90, 1, 4, 4)
    b = ((b + 1) * 127.5).round() / 127.5 - 1
    by_hand = frechet_distance(statistics(a.flatten(1)), statistics(b.flatten(1)))
    assert distance(a, b) == pytest.approx(by_hand, rel=1e-4)


def test_a_shift_costs_its_square_per_pixel():
    """Equal covariances cancel: ‖Δμ‖² of 16 pixels that are 10 grey levels brighter."""
    images = byte_images(0, 200, 1, 4, 4)
    assert distance(images + 10 * STEP, images) == pytest.approx(16 * (10 * STEP) ** 2, rel=1e-3)


def test_points_are_features_too():
    """Two independent coordinates, one of them stretched from deviation s to 2s: (2s − s)² = s²."""
    torch.manual_seed(0)
    spread = 0.1 * torch.randn(20_000, 1, 1, 2)
    stretched = spread * torch.tensor([2.0, 1.0])
    assert distance(stretched, spread) == pytest.approx(0.01, rel=0.05)


def test_colours_are_features_of_their_own():
    images = byte_images(0, 120, 3, 2, 2)
    features = extractor("pixels")([pictures(images)])["pixels"]
    torch.testing.assert_close(features * 3**0.5, images.flatten(1), rtol=0, atol=1e-5)


def test_large_images_are_averaged_over_blocks():
    small = byte_images(0, 40, 1, 16, 16)
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    network = extractor("pixels")
    torch.testing.assert_close(network([pictures(large)])["pixels"], network([pictures(small)])["pixels"])


def test_features_of_a_package_that_is_not_installed_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyradiomics", None)
    with pytest.raises(UsageError, match=r"pip install 'mrigen\[radiomics\]'"):
        extractor("radiomics")
