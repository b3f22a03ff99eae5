"""The form of denoisers behind masks and the weight of their loss, in closed form."""

import pytest
import torch
from gaussians import covariance
from torch import nn

from mrigen.channels import ChannelLayout, PseudoInverseParams
from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.schedules import LogNormal
from mrigen.networks.precond import EDM, VP
from mrigen.operators import MultiCoilMRI
from mrigen.operators.corruption import Corruption
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like

DATA = 0.5


class Recorded(nn.Module):
    """A raw network F that returns what it was made with, and keeps its input."""

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.params = type("Params", (), {"out_channels": value.shape[1]})()

    def forward(self, x, noise, labels=None, augment=None):
        del noise, labels, augment
        self.seen = x
        return self.value


def real_denoiser(value):
    conventions = ChannelLayout(
        image="real",
        image_channels=value.shape[1],
        ones_channel=False,
        pseudo_inverse=PseudoInverseParams(),
    )
    return NetworkDenoiser(EDM(EDM.Params(), Recorded(value)), conventions)


def masked(generator, batch=3):
    return PixelMask(torch.rand(batch, 1, 4, 4, generator=generator) < 0.5, 1)


def test_each_pixel_has_the_form_of_its_own_noise_level(generator):
    """EDM's where Ã shows, σ_d F where it hides: c_skip 0 and c_out σ_d are EDM's for σ → ∞."""
    F, A = torch.randn(3, 1, 4, 4, generator=generator), masked(generator)
    x, sigma = A.normal(torch.randn(3, 1, 4, 4, generator=generator)), torch.tensor([0.002, 0.5, 40.0])
    denoiser = real_denoiser(F)
    level = sigma.view(-1, 1, 1, 1)
    total = level**2 + DATA**2
    shown = DATA**2 / total * x + level * DATA / total.sqrt() * F
    expected = torch.where(A.mask, shown, DATA * F)
    torch.testing.assert_close(denoiser(x, sigma, A), expected)
    torch.testing.assert_close(denoiser.network.network.seen[:, :1], x / total.sqrt())
    far = real_denoiser(F)(torch.zeros_like(x), torch.full((3,), 1e6))
    torch.testing.assert_close(far, DATA * F, rtol=1e-4, atol=1e-4)


def test_everything_seen_is_the_form_of_edm(generator):
    F = torch.randn(2, 1, 4, 4, generator=generator)
    x, sigma = torch.randn(2, 1, 4, 4, generator=generator), torch.tensor([0.1, 2.0])
    whole = PixelMask(torch.ones(2, 1, 4, 4, dtype=torch.bool), 1)
    plain = real_denoiser(F)(x, sigma)
    torch.testing.assert_close(real_denoiser(F)(x, sigma, whole), plain)


def test_low_noise_keeps_what_is_seen_and_leaves_the_rest_free(generator):
    """At σ = 0.002 seen pixels are the measurement to 1e-2, hidden ones whatever F says."""
    F, A = torch.randn(3, 1, 4, 4, generator=generator), masked(generator)
    x = A.normal(torch.randn(3, 1, 4, 4, generator=generator).clamp(-1, 1))
    out = real_denoiser(F)(x, torch.full((3,), 0.002), A)
    assert ((out - x) * A.mask).abs().max() < 1e-2
    torch.testing.assert_close(out * ~A.mask, DATA * F * ~A.mask)


def test_the_target_of_the_network_is_bounded_as_the_noise_vanishes(generator):
    """F for D = E[x | Ñ(x + σ ε)] of white x, several coils: of the order of 1 at every σ."""
    maps = torch.randn(1, 3, 4, 8, dtype=torch.complex128, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    lines = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
    A = MultiCoilMRI(maps, lines[None, None, None])
    x, noise = (randn_like(A.zero_image(), generator) for _ in range(2))
    inverse = A.pseudo_inverse(0.05, 40)
    root = {}
    for sigma in (1.0, 0.1, 0.01, 0.002):
        z = inverse.project(DATA * x + sigma * noise)
        skip, out = DATA**2 / (sigma**2 + DATA**2), sigma * DATA / (sigma**2 + DATA**2) ** 0.5
        rest = DATA * x - skip * z

        def form(F, out=out):
            shown = inverse.project(F)
            return out * shown + DATA * (F - shown)

        columns = []
        for index in range(32):
            unit = torch.zeros(1, 32, dtype=torch.complex128)
            unit[0, index] = 1
            columns.append(form(unit.view(1, 1, 4, 8)).flatten())
        F = torch.linalg.solve(torch.stack(columns, -1), rest.flatten())
        root[sigma] = float(F.abs().square().mean().sqrt())
        edm = float((rest / out).abs().square().mean().sqrt())
    assert max(root.values()) < 4
    assert edm > 50  # EDM's form at σ = 0.002


def test_forms_without_a_factor_for_hidden_components_refuse(generator):
    F, A = torch.randn(1, 1, 4, 4, generator=generator), masked(generator, 1)
    conventions = ChannelLayout(
        image="real", image_channels=1, ones_channel=False, pseudo_inverse=PseudoInverseParams()
    )
    denoiser = NetworkDenoiser(VP(VP.Params(), Recorded(F)), conventions)
    with pytest.raises(ValueError, match="VP has no factor for hidden components"):
        denoiser(A.normal(F), torch.ones(1), A)


class Coils(Corruption):
    """Two coils on 1 x 4 images."""

    def __init__(self):
        generator = torch.Generator().manual_seed(8)
        maps = torch.randn(1, 2, 1, 4, dtype=torch.complex128, generator=generator)
        self.maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()

    def draw(self, batch, generator):
        raise AssertionError

    def corrupt_further(self, operator, generator):
        raise AssertionError


class LinearPerMask:
    """x̃ ↦ W(Ã) x̃ on real and imaginary parts, a matrix for each of the 16 masks."""

    def __init__(self):
        self.W = torch.zeros(16, 8, 8, dtype=torch.float64, requires_grad=True)

    def __call__(self, x, sigma, A_tilde=None, labels=None, augment=None):
        del sigma, labels, augment
        which = (A_tilde.mask.flatten(1).long() * torch.tensor([8, 4, 2, 1])).sum(1)
        real = torch.cat([x.real, x.imag], -1).flatten(1)
        return as_complex(torch.einsum("bij,bj->bi", self.W[which], real))


def as_complex(real):
    """(B, 8) to (B, 1, 1, 4)."""
    return torch.complex(real[:, :4], real[:, 4:])[:, None, None]


@pytest.mark.parametrize("form", [{"tau": 0.05, "steps": 8}, None])
def test_the_minimiser_of_several_coils_is_the_conditional_mean(form, monkeypatch):
    """W(Ã) x̃ = E[x | x̃, Ã] minimises the loss with either weight, exactly.

    A line is measured with probability 0.7 and hidden further with 0.4: 81 pairs of masks. The loss is a
    quadratic form in (x, ε), so that its mean over Gaussian x and ε is the sum over the columns of a root of
    the covariance.
    """
    corruption, cov = Coils(), covariance(8, seed=4)
    states = torch.cartesian_prod(*[torch.arange(3)] * 4)  # hidden, measured and hidden further, seen
    chance = torch.tensor([0.3, 0.7 * 0.4, 0.7 * 0.6], dtype=torch.float64)[states].prod(1)
    root = torch.block_diag(torch.linalg.cholesky(cov), torch.eye(8, dtype=torch.float64))
    pairs, columns = len(states), root.shape[1]
    x, noise = as_complex(root[:8].mT.repeat(pairs, 1)), as_complex(root[8:].mT.repeat(pairs, 1))
    states, chance = states.repeat_interleave(columns, 0), chance.repeat_interleave(columns)
    masks = states[:, None, None]
    maps = corruption.maps.expand(len(states), -1, -1, -1)
    A, further = MultiCoilMRI(maps, masks > 0), MultiCoilMRI(maps, masks == 2)
    batch = Measurements(A.forward(x), A, torch.zeros(len(x)), further=further)
    sigma = torch.ones(len(x), dtype=torch.float64)
    monkeypatch.setattr("mrigen.diffusion.objectives.ambient.randn_like", lambda like, generator: noise)
    monkeypatch.setattr(LogNormal, "draw", lambda self, count, generator: sigma)
    objective = OBJECTIVES.build({"name": "ambient", "pseudo_inverse": form}, corruption=corruption)
    model = LinearPerMask()
    optimizer = torch.optim.LBFGS(
        [model.W], line_search_fn="strong_wolfe", max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-15
    )

    def closure():
        optimizer.zero_grad()
        value = (chance * objective(model, batch, torch.Generator())).sum()
        value.backward()
        return value

    optimizer.step(closure)
    for number in range(1, 16):
        mask = torch.tensor([number >> bit & 1 for bit in (3, 2, 1, 0)]).bool()
        unit = as_complex(torch.eye(8, dtype=torch.float64))
        image = MultiCoilMRI(corruption.maps, mask.view(1, 1, 1, 4)).normal(unit)
        N = torch.cat([image.real, image.imag], -1).flatten(1).mT
        seen = N @ (cov + torch.eye(8, dtype=torch.float64)) @ N.mT
        expected = cov @ N.mT @ torch.linalg.pinv(seen, rtol=1e-9)
        torch.testing.assert_close(model.W.detach()[number] @ N, expected @ N, atol=1e-2, rtol=0)
