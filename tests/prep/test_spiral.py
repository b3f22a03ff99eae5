"""The built-in points of a spiral: on their curve, evenly, and noisy as the noise law says."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from mrigen.cli.main import run
from mrigen.data.stores import open_store
from mrigen.metrics.memorisation import nearest_distance
from mrigen.metrics.reference import open_reference

SIGMA = 0.05


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("spiral") / "store"
    assert run(["prep-images", "spiral", "--crop", "none", "--noise", str(SIGMA), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def clean(store):
    references = open_reference(store.with_name("store-reference"))
    return references.images(list(range(len(references))))


@pytest.fixture(scope="module")
def noisy(store):
    opened = open_store(store)
    return opened.measurements(list(range(len(opened)))).y


def test_points_are_images_of_two_pixels(store, clean):
    assert json.loads((store / "manifest.json").read_text())["source"]["kind"] == "spiral"
    assert clean.shape == (12_000, 1, 1, 2)


def test_clean_points_lie_on_the_curve(clean):
    """Polar angle = π/2 + 3π (r − 0.15)/0.75, modulo a turn."""
    x, y = clean.double().flatten(1).T
    radius = torch.hypot(x, y)
    wanted = math.pi / 2 + 3 * math.pi * (radius - 0.15) / 0.75
    off = torch.remainder(torch.atan2(y, x) - wanted + math.pi, 2 * math.pi) - math.pi
    assert (off * radius).abs().max() < 1e-6
    assert radius.min() == pytest.approx(0.15, abs=1e-6)
    assert radius.max() == pytest.approx(0.9, abs=1e-6)


def test_pieces_of_the_curve_have_about_as_many_points(clean):
    """r² is uniform; the length per point varies by the radial part of the arc alone."""
    points = clean.double().flatten(1)
    squares, _ = points.square().sum(1).sort()
    steps = squares.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, (0.81 - 0.0225) / 11_999), rtol=0, atol=1e-6)
    length = torch.tensor(np.linalg.norm(np.diff(points.numpy(), axis=0), axis=1))
    assert length.max() / length.min() < 1.2


def test_noise_follows_its_law(clean, noisy):
    """All residuals together are N(0, σ²) (Kolmogorov-Smirnov)."""
    residual = (noisy - clean).flatten().numpy() / SIGMA
    assert stats.kstest(residual, "norm").pvalue > 0.01
    assert abs(np.corrcoef((noisy - clean).flatten(1).T)[0, 1]) < 0.04


def test_distance_of_the_data_is_that_of_noise_across_the_curve(clean, noisy):
    """σ √(2/π) for a straight line; curvature and neighbouring turns change it little."""
    distance = float(nearest_distance(noisy[::6], clean).mean())
    assert distance == pytest.approx(SIGMA * math.sqrt(2 / math.pi), rel=0.04)


def test_labels_are_refused_in_one_line(tmp_path, capsys):
    assert run(["prep-images", "spiral", "--crop", "none", "--labels", "--out", str(tmp_path / "s")]) == 2
    assert "leave out --labels" in capsys.readouterr().err
