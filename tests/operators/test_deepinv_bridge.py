"""deepinv's physics and denoisers, by a stand-in with their interface, and by deepinv where it is there."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mrigen.denoiser import to_channels, to_complex
from mrigen.errors import UsageError
from mrigen.operators import Measurements, MultiCoilMRI, PixelMask, from_deepinv, to_deepinv
from mrigen.tensors import concatenate, randn_like

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


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
    y = A[0](x[:1])
    assert_close(physics.A(to_channels(x[:1])), torch.stack([y.real, y.imag], 1))
    assert_close(to_complex(physics.A_adjoint(physics.A(to_channels(x[:1])))), A[0].normal(x[:1]), **CLOSE)
    back = from_deepinv(physics, (1, 12, 9), complex_valued=True)
    assert_close(torch.complex(*back(x).unbind(1)), A[0](x))
    assert_close(back.normal(x), A[0].normal(x), **CLOSE)
    assert_close(concatenate([back, back]).normal(x), back.normal(x))
    with pytest.raises(UsageError, match="measurements are real in deepinv"):
        physics.A_adjoint(y)


def test_measurements_become_what_algorithms_take(stand_in, generator):
    A = MultiCoilMRI.example()
    data = Measurements(A(randn_like(A.zero_image(), generator)), A)
    y, physics = to_deepinv(data)
    assert_close(torch.complex(*y.unbind(1)), data.y)
    assert_close(to_complex(physics.A_adjoint(y)), A.H(data.y))
    mask = PixelMask.example()
    real = Measurements(mask(mask.zero_image() + 1), mask)
    assert_close(to_deepinv(real)[0], real.y)


def test_denoisers_take_a_number_or_a_level_per_image(stand_in, generator):
    class Shrink(nn.Module):
        conventions = SimpleNamespace(image="complex")

        def forward(self, x, sigma):
            assert x.is_complex()
            return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    denoiser = to_deepinv(SimpleNamespace(denoiser=Shrink()))  # as a Model has it
    assert type(denoiser.denoiser) is type(to_deepinv(Shrink()).denoiser)
    x = torch.randn(2, 2, 4, 4, generator=generator)
    assert_close(denoiser(x, 2.0), x / 5)
    assert_close(denoiser(x, torch.tensor([0.0, 1.0])), x / torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))


def test_what_does_not_fit_is_refused(stand_in):
    with pytest.raises(UsageError, match=r"give an operator, .* or its denoiser, not int"):
        to_deepinv(3)
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
    A = MultiCoilMRI.example()[0]
    physics = to_deepinv(A)
    assert isinstance(physics, deepinv.physics.LinearPhysics)
    x = torch.randn(2, 2, 12, 9, generator=generator)
    assert abs(physics.adjointness_test(x)) < 1e-5
    assert float(physics.compute_sqnorm(x[:1], max_iter=2000, tol=1e-6)) == pytest.approx(
        float(A.operator_norm(500)) ** 2, rel=1e-2
    )
    coils = deepinv.physics.MultiCoilMRI(
        mask=(torch.rand(8, 8, generator=generator) > 0.5).float(),
        coil_maps=torch.randn(1, 4, 8, 8, dtype=torch.complex64, generator=generator),
        img_size=(8, 8),
    )
    B = from_deepinv(coils, (1, 8, 8), complex_valued=True)
    image = torch.randn(2, 1, 8, 8, dtype=torch.complex64, generator=generator)
    y = torch.randn(B(image).shape, generator=generator)
    assert_close((B(image) * y).sum(), (image.conj() * B.H(y)).sum().real, rtol=1e-3, atol=1e-3)
    same = MultiCoilMRI(coils.coil_maps, coils.mask[0, 0])
    assert_close(torch.complex(*B(image).unbind(1)), same(image), **CLOSE)


def test_a_prior_in_deepinvs_plug_and_play(generator):
    """Gaussian images: deepinv's iteration with the exact denoiser ends at the posterior mean."""
    deepinv = pytest.importorskip("deepinv")
    A = MultiCoilMRI.example()[0]

    class Gaussian(nn.Module):
        """Of white complex images of variance 1 in each component."""

        conventions = SimpleNamespace(image="complex")

        def forward(self, x, sigma):
            return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    level = 0.5
    y, physics = to_deepinv(Measurements(A(randn_like(A.zero_image(), generator)), A))
    step = float(0.9 / A.norm_bound())
    denoiser = to_deepinv(Gaussian())
    model = deepinv.optim.optim_builder(
        iteration="PGD",
        prior=deepinv.optim.PnP(denoiser=denoiser),
        data_fidelity=deepinv.optim.L2(),
        max_iter=400,
        early_stop=False,
        params_algo={"g_param": level, "stepsize": step},
    )
    with torch.no_grad():
        x = to_complex(model(y, physics))
    # x = D(x - s N x + s Aᴴ y) with D = 1 / (1 + σ²) is (N + σ² / s) x = Aᴴ y
    expected = A.solve(torch.complex(*y.unbind(1)), regularisation=level**2 / step, iterations=200)
    assert_close(x, expected, rtol=1e-3, atol=1e-3)
