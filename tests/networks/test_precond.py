"""Preconditioning: identities of the coefficients (EDM, table 1)."""

import math

import numpy as np
import pytest
import torch

from mrigen.networks import NETWORKS, PRECONDITIONERS
from mrigen.networks.song_unet import SongUNet

from .numpy_edm import iddpm_levels

SIGMA = torch.tensor([0.002, 0.05, 0.5, 2.0, 80.0], dtype=torch.float64)


def model(name, **params):
    return PRECONDITIONERS.build({"name": name, **params}, network=SongUNet.example()).eval()


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_inputs_and_targets_have_unit_variance(sigma_data):
    skip, out, scale, noise = model("edm", sigma_data=sigma_data).coefficients(SIGMA)
    total = SIGMA**2 + sigma_data**2
    torch.testing.assert_close(scale**2 * total, torch.ones_like(SIGMA))
    # (x - c_skip (x + σ ε)) / c_out has variance one
    torch.testing.assert_close((1 - skip) ** 2 * sigma_data**2 + skip**2 * SIGMA**2, out**2)
    torch.testing.assert_close((4 * noise).exp(), SIGMA)


def test_direct_is_the_network_of_an_input_of_unit_variance():
    direct = model("direct", sigma_data=1.3)
    _, _, scale, noise = direct.coefficients(SIGMA)
    torch.testing.assert_close(scale**2 * (SIGMA**2 + 1.3**2), torch.ones_like(SIGMA))
    x, sigma = torch.randn(5, 4, 8, 8), SIGMA.float()
    with torch.no_grad():
        out = direct(x, sigma)
        raw = direct.network(x * scale.float().reshape(-1, 1, 1, 1), noise.float())
    torch.testing.assert_close(out, raw[:, : out.shape[1]])


def test_vp_time_inverts_the_schedule():
    """σ(t)² + 1 = exp(∫β), and the noise label is 999 t."""
    vp = model("vp")
    time = torch.tensor([1e-5, 0.1, 0.5, 1.0], dtype=torch.float64)
    sigma = ((19.9 * time**2 / 2 + 0.1 * time).exp() - 1).sqrt()
    skip, out, scale, noise = vp.coefficients(sigma)
    torch.testing.assert_close(noise, 999 * time, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(out, -sigma)
    torch.testing.assert_close(skip, torch.ones_like(sigma))
    torch.testing.assert_close(scale**2 * (1 + sigma**2), torch.ones_like(sigma))
    assert vp.sigma_min == pytest.approx(sigma[0].item(), rel=1e-9)
    assert vp.sigma_max == pytest.approx(sigma[-1].item(), rel=1e-9)


def test_ve_coefficients():
    ve = model("ve")
    skip, out, scale, noise = ve.coefficients(SIGMA)
    assert torch.equal(out, SIGMA)
    assert torch.equal(skip, torch.ones_like(SIGMA))
    assert torch.equal(scale, torch.ones_like(SIGMA))
    torch.testing.assert_close(2 * noise.exp(), SIGMA)
    assert (ve.sigma_min, ve.sigma_max) == (0.02, 100.0)


def test_iddpm_levels_follow_the_recursion():
    iddpm = model("iddpm")
    u = iddpm_levels()
    np.testing.assert_allclose(iddpm.levels.numpy(), u, rtol=1e-5)
    assert u[-1] == 0
    # ᾱ_j = 1 / (1 + u_j²) up to the factor by which the first steps are clipped
    alpha_bar = np.sin(np.pi / 2 * np.arange(1001) / 1000 / 1.008) ** 2
    ratio = (1 / (1 + u**2)) / alpha_bar.clip(1e-30)
    np.testing.assert_allclose(ratio[10:], ratio[-1], rtol=1e-9)
    assert iddpm.sigma_min == pytest.approx(u[999], rel=1e-6)
    assert iddpm.sigma_max == pytest.approx(u[0], rel=1e-6)


def test_iddpm_rounds_to_its_levels():
    iddpm = model("iddpm")
    index = torch.tensor([0, 17, 500, 1000])
    exact = iddpm.levels[index]
    nudged = exact * torch.tensor([1.01, 1 + 1e-4, 1 - 1e-4, 1.0])
    torch.testing.assert_close(iddpm.round_sigma(nudged), exact)
    noise = iddpm.coefficients(nudged)[3]
    assert torch.equal(noise, 999.0 - index)
    assert iddpm.round_sigma(torch.rand(2, 3)).shape == (2, 3)


def test_levels_are_those_of_the_training():
    """Nearest ones, and none outside; 0, which IDDPM's levels end with, is none."""
    iddpm, ve = model("iddpm"), model("ve")
    assert iddpm.nearest_level(float(iddpm.levels[700]) * 1.0001) == float(iddpm.levels[700])
    assert iddpm.nearest_level(1e-6) == pytest.approx(iddpm.sigma_min, rel=1e-6)
    assert [ve.nearest_level(sigma) for sigma in (0.01, 0.3, 200.0)] == [0.02, 0.3, 100.0]
    assert model("edm").nearest_level(1 / 3) == 1 / 3


def test_iddpm_uses_the_first_half_of_the_outputs():
    iddpm = model("iddpm")
    x, sigma = torch.randn(2, 4, 8, 8), torch.tensor(1.0)
    with torch.no_grad():
        out = iddpm(x, sigma)
        raw = iddpm.network(x / math.sqrt(2), iddpm.coefficients(torch.ones(2))[3])
    assert out.shape == (2, 1, 8, 8)
    torch.testing.assert_close(out, x[:, :1] - raw[:, :1])


def test_continuous_preconditionings_round_nothing():
    for name in ("direct", "edm", "vp", "ve"):
        assert torch.equal(model(name).round_sigma(SIGMA), SIGMA)


def test_scalar_and_per_sample_noise_levels_agree():
    for name in PRECONDITIONERS.names():
        edm = model(name)
        x = torch.randn(3, 4, 8, 8)
        with torch.no_grad():
            one, many = edm(x, torch.tensor(0.7)), edm(x, torch.full((3,), 0.7, dtype=torch.float64))
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, many)


@pytest.mark.parametrize("network", NETWORKS.names())
@pytest.mark.parametrize("name", PRECONDITIONERS.names())
def test_example_of_every_pair_trains(network, name):
    """Every parameter that matters receives a gradient; the result is the image's shape."""
    torch.manual_seed(0)
    net = NETWORKS[network].example()
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    denoiser = PRECONDITIONERS[name].example(net)
    size = (1, 2) if network == "mlp" else (8, 8)
    x = torch.randn(2, 4, *size)
    labels = torch.eye(3)[:2] if net.params.label_dim else None
    out = denoiser(x, torch.tensor([0.3, 3.0]), labels)
    assert out.shape == (2, denoiser.out_channels, *size)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
