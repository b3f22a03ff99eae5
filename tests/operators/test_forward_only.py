"""Phase retrieval and clipping: operators without an adjoint."""

import pytest
import torch

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, linear
from mrigen.operators.corruption import make_corruption


@pytest.fixture
def magnitude(generator):
    return make_corruption({"name": "phase-retrieval"}, (1, 9, 8)).draw(2, generator)


@pytest.fixture
def x(generator):
    return torch.randn(2, 1, 9, 8, generator=generator)


def test_magnitudes_keep_the_norm(magnitude, x):
    y = magnitude.forward(x)
    assert y.shape == (2, 1, 17, 16)
    assert (y >= 0).all()
    torch.testing.assert_close(y.norm(), x.norm())


def test_magnitudes_do_not_tell_shift_inversion_or_sign(magnitude, x):
    small = torch.zeros(2, 1, 9, 8)
    small[..., 2:6, 3:6] = x[..., 2:6, 3:6]
    y = magnitude.forward(small)
    for other in (-small, small.roll((1, 2), (-2, -1)), small.flip((-2, -1))):
        torch.testing.assert_close(magnitude.forward(other), y, atol=1e-5, rtol=1e-4)


def test_squared_magnitudes_are_the_transform_of_the_autocorrelation(magnitude, x):
    """Twice oversampled, no lag wraps round: |F P x|² ↔ Σ_n x_n x_{n+l}, here summed directly."""
    image = x[0, 0].double()
    lags = torch.zeros(17, 16, dtype=torch.float64)
    for a in range(-8, 9):
        for b in range(-7, 8):
            one = image[max(0, -a) : 9 - max(0, a), max(0, -b) : 8 - max(0, b)]
            two = image[max(0, a) : 9 + min(0, a), max(0, b) : 8 + min(0, b)]
            lags[8 + a, 8 + b] = (one * two).sum()
    power = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(lags))).real / (17 * 16)
    torch.testing.assert_close(magnitude.forward(x)[0, 0].double() ** 2, power, atol=1e-5, rtol=1e-4)


def test_clipping_saturates(generator):
    operator = make_corruption({"name": "clipping", "scale": 2.0}, (1, 1, 5)).draw(1, generator)
    x = torch.tensor([[[[-1.0, -0.5, 0.2, 0.5, 0.7]]]])
    torch.testing.assert_close(operator.forward(x), torch.tensor([[[[-1.0, -1.0, 0.4, 1.0, 1.0]]]]))


@pytest.mark.parametrize("name", ["phase-retrieval", "clipping"])
def test_there_is_no_adjoint(name, generator):
    operator = make_corruption({"name": name}, (1, 8, 8)).draw(1, generator)
    assert not isinstance(operator, LinearOperator)
    assert not hasattr(operator, "adjoint")
    with pytest.raises(UsageError, match=r"^\w+ is not linear: it has no adjoint; use another objective$"):
        linear(operator)
