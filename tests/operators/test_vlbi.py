"""VLBI: visibilities by the defining sum, coverage of known places, and what gains leave unchanged."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators import ClosureQuantities, Visibilities
from mrigen.operators.corruption import make_corruption
from mrigen.operators.vlbi import EARTH_RADIUS, MICROARCSECOND, STATIONS, WAVELENGTH
from mrigen.prep.images.sources import open_set

SHAPE = (1, 16, 16)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(batch=2, **params):
    words = {"name": "vlbi", "phase_error": 2.0, "amplitude_error": 0.5, **params}
    return make_corruption(words, SHAPE).draw(batch, rng(1)).to(dtype=torch.float64)


def holes(count=2):
    """Brightness in [0, 1] of black holes, as images in [−1, 1]."""
    pixels = torch.from_numpy(open_set("black-holes").pixels[:count]).double()
    return 2 * pixels.view(count, *SHAPE) - 1


def test_a_point_source():
    """Its visibilities are gains times plane waves of the same amplitude."""
    A = Visibilities.example().to(dtype=torch.float64)
    x = A.zero_image()
    x[:, 0, 7, 1] = 3.0
    places = torch.tensor([(7 - 4) / 9, (1 - 4) / 8], dtype=torch.float64)
    expected = 3 / math.sqrt(72) * torch.exp(-2j * math.pi * (A.points @ places)) * A.gains
    torch.testing.assert_close(A(x), expected)


def test_a_point_in_the_middle_is_the_brightest_pixel_of_its_dirty_image():
    A = drawn(phase_error=0.0, amplitude_error=0.0)
    x = A.zero_image()
    x[:, 0, 8, 8] = 2.0
    dirty = A.as_image(A(x))
    torch.testing.assert_close(dirty[:, 0, 8, 8], torch.full((2,), 2.0, dtype=torch.float64))
    assert (dirty.flatten(1).argmax(1) == 8 * 16 + 8).all()


def test_baselines_at_the_transit():
    """At H = 0 of ALMA's meridian u = Y and v = −sin δ X + cos δ Z by hand, one scan at 90° west."""
    A = drawn(1, times=1)
    names = list(STATIONS)
    pairs = [(names[int(a)], names[int(b)]) for _, a, b in A.baselines[0]]
    assert ("ALMA", "LMT") in pairs
    assert all("NOEMA" not in pair for pair in pairs), "it is night's other side"
    latitude, longitude = np.radians(np.array([STATIONS["ALMA"], STATIONS["LMT"]])).T
    west = longitude + np.pi / 2  # from the meridian of the source
    place = np.stack([np.cos(latitude) * np.cos(west), np.cos(latitude) * np.sin(west), np.sin(latitude)])
    X, Y, Z = (place[:, 0] - place[:, 1]) * EARTH_RADIUS / WAVELENGTH * 160 * MICROARCSECOND
    delta = math.radians(12.4)
    seen = A.points[0, pairs.index(("ALMA", "LMT"))]
    assert seen.tolist() == pytest.approx([-(-math.sin(delta) * X + math.cos(delta) * Z), -Y], abs=1e-5)


@pytest.mark.parametrize("which", ["phases", "amplitudes", "both"])
def test_closures_do_not_depend_on_gains(which):
    """Closure phases are invariant to station phases, closure amplitudes to station amplitudes."""
    sizes = {"phase_error": 3.0 * (which != "amplitudes"), "amplitude_error": 1.0 * (which != "phases")}
    A = drawn(**sizes)
    ideal = replace(A, gains=torch.ones_like(A.gains))
    x = holes()
    measured = ClosureQuantities(A)(x)
    torch.testing.assert_close(measured, ClosureQuantities(ideal)(x), rtol=0, atol=1e-6)
    assert (A(x) - ideal(x)).abs().max() > 0.1
    torch.testing.assert_close(measured, ClosureQuantities(ideal).quantities(A((1 + x) / 2)))


def test_closures_see_the_source_and_no_shift_of_it():
    """A shift multiplies V by a phase of each station; another source has other closures."""
    A = ClosureQuantities(drawn())
    x = holes()
    x[:, :, -1] = x[..., -1] = -1.0  # dark where the shift leaves the image
    torch.testing.assert_close(A(x.roll((1, 1), (2, 3))), A(x), rtol=0, atol=1e-5)
    assert (A(x)[0] - A(x)[1]).abs().max() > 0.3
    (slope,) = torch.autograd.grad(A(x.requires_grad_()).square().sum(), x)
    assert slope.isfinite().all()
    assert slope.flatten(1).norm(dim=1).min() > 0


def test_closures_of_three_visibilities_by_hand():
    A = Visibilities.example().to(dtype=torch.float64)
    C = ClosureQuantities(A)
    V = torch.polar(
        torch.rand(2, 12, generator=rng()).double() + 0.5, 6 * torch.rand(2, 12, generator=rng(2)).double()
    )
    q = C.quantities(V)
    ab, ac, ad, bc, bd, cd = V[:, :6].unbind(1)
    phase = (ab * bc * ac.conj()).angle()
    torch.testing.assert_close(q[:, 0], phase.cos())
    torch.testing.assert_close(q[:, 8], phase.sin())
    torch.testing.assert_close(q[:, 16], (ab.abs() * cd.abs() / ac.abs() / bd.abs()).log())
    torch.testing.assert_close(q[:, 17], (ab.abs() * cd.abs() / ad.abs() / bc.abs()).log())


def test_the_image_of_closures_has_them():
    """Least phases and log amplitudes that explain small closures give the same closures again."""
    A = drawn()
    C = ClosureQuantities(A)
    V = torch.polar((0.3 * torch.randn(2, 56, generator=rng())).double().exp(), torch.zeros(2, 56).double())
    y = C.quantities(V)
    triangles, amplitudes = C._closures
    logs = y[:, 2 * len(triangles) :] @ torch.linalg.pinv(amplitudes).mT
    torch.testing.assert_close(C.quantities(torch.polar(logs.exp(), torch.zeros_like(logs))), y)
    torch.testing.assert_close(C.as_image(y), A.as_image(torch.polar(logs.exp(), torch.zeros_like(logs))))


def test_the_corruption_draws_other_gains_of_stations():
    A = drawn(4)
    assert (A.gains[0] - A.gains[1]).abs().max() > 0.1
    assert A.points.shape == (1, 56, 2)
    first = A.baselines[0, :, 0] == 2  # a time with five stations: ten baselines of five gains
    assert int(first.sum()) == 10
    ones = replace(A, points=torch.zeros_like(A.points))  # V of a point: closures 1, gains aside
    closures = ClosureQuantities(ones)(A.zero_image() + 1)
    torch.testing.assert_close(closures[:, :51], torch.ones(4, 51).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(closures[:, 102:], torch.zeros(4, 54).double(), rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="one channel, not 3"):
        make_corruption({"name": "vlbi"}, (3, 8, 8))
    with pytest.raises(UsageError, match="no two telescopes"):
        make_corruption({"name": "vlbi", "declination": -89}, SHAPE)
    with pytest.raises(UsageError, match="no labels"):
        open_set("black-holes", labels=True)


def test_black_holes_are_rings_and_crescents():
    """Dark in the middle, brightest on a ring, some even and some on one side."""
    pixels = open_set("black-holes").pixels.reshape(2000, 16, 16)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels[:, 7:9, 7:9].mean() < 0.25 * pixels.max((1, 2)).mean()
    sides = np.abs(pixels[:, :8].sum((1, 2)) - pixels[:, 8:].sum((1, 2))) / pixels.sum((1, 2))
    assert sides.min() < 0.02
    assert sides.max() > 0.3
