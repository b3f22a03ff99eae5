"""SiD against golden values and gradients, and its fixed point."""

import numpy as np
import pytest
import torch

from mrigen.denoiser import to_channels, to_complex
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.schedules import KarrasUniform
from mrigen.losses import LOSSES
from mrigen.losses.base import DiffusedBatch
from mrigen.operators import MultiCoilMRI
from mrigen.operators.corruption import Corruption


class Unused(Corruption):
    """The golden cases fix every operator."""

    def draw(self, batch, generator):
        raise AssertionError

    def corrupt_further(self, operator, generator):
        raise AssertionError


def denoiser(function):
    def call(x, sigma, A_tilde=None, labels=None):
        del labels
        level = sigma.view(-1, 1, 1, 1)
        mask = None if A_tilde is None else A_tilde.conditioning()
        out = function(to_channels(x), level, mask)
        return to_complex(out) if x.is_complex() else out

    return call


def loss(objective, **constants):
    return LOSSES.build(
        {"name": "sid", **constants}, objective=OBJECTIVES.build({"name": objective}, corruption=Unused())
    )


def f_psi(c, s, _):
    return c / (1.3 + s**2) + 0.02 * c.flip(-1) / (1 + s)


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_golden_real_images(data, alpha):
    case = np.load(data / "golden" / "sid_loss.npz")
    x = torch.from_numpy(case["x"]).requires_grad_()
    sigma, noise = torch.from_numpy(case["sigma"]).flatten(), torch.from_numpy(case["noise"])
    teacher = denoiser(lambda c, s, _: 0.9 * c / (1 + s**2) + 0.05 * torch.tanh(c))
    batch = DiffusedBatch(x, None, None, sigma, noise)
    value = loss("standard", alpha=alpha).generator_loss_at(teacher, denoiser(f_psi), batch).sum()
    value.backward()
    assert value.item() == pytest.approx(float(case[f"loss_sum_alpha{alpha}"]), rel=1e-4)
    gradient = torch.from_numpy(case[f"grad_alpha{alpha}"])
    assert (x.grad - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.parametrize("domain", ["image", "measurement"])
def test_golden_mri(data, domain, monkeypatch):
    case = np.load(data / "golden" / "sid_loss_mri.npz")
    get = {k: torch.from_numpy(np.array(case[k])) for k in case.files}
    A = MultiCoilMRI(get["maps"][None], get["mask"].bool()[:, None, None])
    further = A.with_mask(get["further_mask"].bool()[:, None, None])
    channels = to_channels(get["x"]).requires_grad_()
    teacher = denoiser(lambda c, s, mask: 0.9 * c / (1 + s**2) + 0.05 * torch.tanh(c) + 0.02 * mask)
    form = loss("ambient", alpha=1.2, domain=domain)
    batch = DiffusedBatch(to_complex(channels), A, further, get["sigma"], get["noise"])
    value = form.generator_loss_at(teacher, denoiser(f_psi), batch)
    value.sum().backward()
    torch.testing.assert_close(value, get[f"{domain}_loss"], rtol=1e-4, atol=0)
    expected = get[f"{domain}_grad"]
    assert (channels.grad - expected).norm() < 1e-4 * expected.norm()
    seen = further.normal(to_complex(channels.detach()) + get["sigma"].view(-1, 1, 1, 1) * get["noise"])
    torch.testing.assert_close(to_channels(seen), get["network_input_re_im"])


def test_noise_levels_of_the_released_code(data):
    case = np.load(data / "golden" / "sid_loss.npz")
    law = KarrasUniform()
    uniform, sigma = torch.from_numpy(case["uniform"]).flatten(), torch.from_numpy(case["sigma"]).flatten()
    torch.testing.assert_close(law.level(1 - uniform * law.t_max / 1000), sigma)


def test_noise_levels_stay_below_t_max(generator):
    law = KarrasUniform()
    levels = law.draw(10_000, generator)
    top = law.level(torch.tensor(1 - 0.8))
    assert levels.min() >= 0.0019
    assert levels.max() <= top
    assert levels.max() > 0.98 * top


def test_noise_levels_can_be_clipped():
    """The floor moves what is below it onto it and leaves the rest alone."""
    free = KarrasUniform().draw(10_000, torch.Generator().manual_seed(4))
    floored = KarrasUniform(floor=0.2).draw(10_000, torch.Generator().manual_seed(4))
    assert torch.equal(floored, free.clamp(min=0.2))
    assert bool((free < 0.1).any())


def test_equal_scores_leave_the_generator_alone():
    """Where the fake score equals the teacher and both are exact, the loss has no gradient on average.

    Data N(0, 1): the exact denoiser is x / (1 + σ²). With f_ψ = f_φ the difference d vanishes, and so do
    the loss and, for α = 1, its gradient through d · r up to the noise of r, whose mean is zero.
    """
    exact = denoiser(lambda c, s, _: c / (1 + s**2))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, 1, 1, generator=generator, requires_grad=True)
    sigma = torch.full((20_000,), 0.7)
    noise = torch.randn(x.shape, generator=generator)
    value = loss("standard", alpha=1.2).generator_loss_at(
        exact, exact, DiffusedBatch(x, None, None, sigma, noise)
    )
    assert value.abs().max() == 0
    value.sum().backward()
    assert x.grad.abs().max() == 0
