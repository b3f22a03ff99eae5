"""deepinv's physics and denoisers, by a stand-in with their interface, and by deepinv where it is there."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mrigen.denoiser import to_channels, to_complex
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI, from_deepinv, to_deepinv
from mrigen.tensors import concatenate, randn_like


class Physics:
    """What deepinv's Physics and LinearPhysics take and offer here."""

    def __init__(self, A, A_adjoint=None):
        self.A, self.A_adjoint = A, A_adjoint


@pytest.fixture
def stand_in(monkeypatch):
    """A module with deepinv's names."""
    there = SimpleNamespace(
        physics=SimpleNamespace(Physics=Physics, LinearPhysics=Physics),
        models=SimpleNamespace(Denoiser=nn.Module),
    )
    monkeypatch.setitem(sys.modules, "deepinv", there)


def test_there_and_back(stand_in, generator):
    A = MultiCoilMRI.example()
    x = randn_like(A.zero_image(), generator)
    physics = to_deepinv(A[0])
    assert_close(physics.A(to_channels(x[:1])), A[0](x[:1]))
    assert_close(to_complex(physics.A_adjoint(A[0](x[:1]))), A[0].normal(x[:1]), rtol=1e-4, atol=1e-5)
    back = from_deepinv(physics, (1, 12, 9), complex_valued=True)
    assert_close(back(x), A[0](x))
    assert_close(back.H(A[0](x)), A[0].normal(x), rtol=1e-4, atol=1e-5)
    assert_close(concatenate([back, back]).normal(x), back.normal(x))


def test_denoisers_take_a_number_or_a_level_per_image(stand_in, generator):
    class Shrink(nn.Module):
        conventions = SimpleNamespace(image="complex")

        def forward(self, x, sigma):
            assert x.is_complex()
            return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    denoiser = to_deepinv(Shrink())
    x = torch.randn(2, 2, 4, 4, generator=generator)
    assert_close(denoiser(x, 2.0), x / 5)
    assert_close(denoiser(x, torch.tensor([0.0, 1.0])), x / torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="no A and A_adjoint"):
        from_deepinv(object(), (1, 2, 2))
    wide = Physics(lambda x: x @ torch.ones(3, 2), lambda y: y)
    with pytest.raises(UsageError, match="does not take images of"):
        from_deepinv(wide, (1, 2, 2))
    with pytest.raises(UsageError, match="A_adjoint gives"):
        from_deepinv(Physics(lambda x: x, lambda y: y[..., :1]), (1, 2, 2))


def test_without_deepinv_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepinv", None)
    with pytest.raises(UsageError, match="deepinv is not installed"):
        to_deepinv(MultiCoilMRI.example())


def test_with_deepinv(generator):
    deepinv = pytest.importorskip("deepinv")
    blur = deepinv.physics.Blur(torch.rand(1, 1, 3, 3, generator=generator), padding="circular")
    x = torch.randn(2, 1, 8, 8, generator=generator)
    assert_close(from_deepinv(blur, (1, 8, 8))(x), blur.A(x))
    assert isinstance(to_deepinv(MultiCoilMRI.example()), deepinv.physics.LinearPhysics)
