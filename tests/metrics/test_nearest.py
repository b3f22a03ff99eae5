"""Closeness of points to a curve, by cases that can be worked out by hand."""

import math

import pytest
import torch

from mrigen.metrics.memorisation import distance_and_coverage, nearest_distance


def points(*pairs):
    return torch.tensor(pairs, dtype=torch.float32).reshape(-1, 1, 1, 2)


def line(count=1001):
    """Points of the unit interval of the first axis."""
    x = torch.linspace(0, 1, count)
    return torch.stack([x, torch.zeros(count)], -1).reshape(-1, 1, 1, 2)


def test_nearest_is_the_euclidean_distance_to_the_closest():
    others = points((0, 0), (3, 4))
    found = nearest_distance(points((0, 0), (0, 1), (3, 0), (6, 8)), others)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 3.0, 5.0], dtype=torch.float64))


def test_nearest_does_not_depend_on_chunks_and_cancels_nothing():
    """Far from the origin, squares that cancel would lose all digits."""
    images = line(3000) + 1e3
    torch.testing.assert_close(nearest_distance(images, images), torch.zeros(3000, dtype=torch.float64))


def test_a_shifted_copy_has_the_shift_as_distance_and_covers_within_it():
    copy = line() + points((0, 0.03))
    found = distance_and_coverage(copy, line(), radius=0.031)
    assert found == {"distance": pytest.approx(0.03, rel=1e-5), "coverage": 1.0}
    assert distance_and_coverage(copy, line(), radius=0.029)["coverage"] == 0.0


def test_one_point_of_the_curve_is_close_and_covers_its_neighbourhood():
    found = distance_and_coverage(points(*[(0.5, 0.0)] * 7), line(), radius=0.1005)
    assert found["distance"] == pytest.approx(0.0, abs=1e-7)
    assert found["coverage"] == pytest.approx(201 / 1001)


def test_half_of_a_curve_covers_half():
    found = distance_and_coverage(line()[:501], line(), radius=1e-4)
    assert found["coverage"] == pytest.approx(501 / 1001)


def test_gaussian_noise_has_its_mean_deviation_as_distance():
    """Distance from a long line is |σ ε|, of mean σ √(2/π), whatever happens along it."""
    noise = 0.01 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    x = torch.linspace(0.1, 0.9, 20_000)
    noisy = torch.stack([x + noise[:, 0], noise[:, 1]], -1).reshape(-1, 1, 1, 2)
    found = distance_and_coverage(noisy, line(), radius=0.01)
    assert found["distance"] == pytest.approx(0.01 * math.sqrt(2 / math.pi), rel=0.02)
