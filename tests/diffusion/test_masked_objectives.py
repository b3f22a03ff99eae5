"""Ambient objectives: one matrix per mask learns E[x | what is seen], unobserved pixels included."""

from dataclasses import replace

import pytest
import torch
from gaussians import covariance, gain, lbfgs, objective, sample

from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise

SHAPE = (1, 1, 3)
COV = covariance(3, seed=4)
LEVEL = 0.7
MASKS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)


class LinearPerMask:
    """x ↦ W(Ã) x, a matrix for each of the 8 masks."""

    def __init__(self):
        self.W = torch.zeros(8, 3, 3, dtype=torch.float64, requires_grad=True)

    def __call__(self, x, sigma, A_tilde=None, labels=None, augment=None):
        place = torch.tensor([4.0, 2.0, 1.0])
        which = (A_tilde.conditioning().flatten(1) @ place).long()
        return torch.einsum("bij,bj->bi", self.W[which], x.flatten(1)).view_as(x)


def trained(name, noise, *, naive=False, samples=150_000):
    corruption = make_corruption(
        {"name": "inpainting", "missing": 0.3, "further_missing": 0.3}, SHAPE, Noise(low=noise)
    )
    form = objective(name, corruption, LEVEL)
    generator = torch.Generator().manual_seed(0)
    batch = corruption.measure(sample(COV, samples, SHAPE, generator), generator)
    if naive:
        batch = replace(batch, further=batch.operator)
    model = LinearPerMask()
    lbfgs(lambda: form(model, batch, torch.Generator().manual_seed(1)).mean(), [model.W], max_iter=60)
    return model.W.detach()


def analytic():
    return gain(COV, torch.full((8,), LEVEL), MASKS)


@pytest.mark.parametrize(("name", "noise"), [("ambient", 0.0), ("ambient-tweedie", 0.4)])
def test_every_pixel_is_the_conditional_expectation(name, noise):
    """Also those that Ã hides, from noiseless and from noisy measurements."""
    assert (trained(name, noise) - analytic()).abs().max() < 0.05


def test_the_naive_masked_loss_learns_nothing_about_unobserved_pixels():
    """With Ã = A the rows of hidden pixels keep their first value; the others are right."""
    W, expected = trained("ambient", 0.0, naive=True), analytic()
    hidden = MASKS == 0
    assert float(W[hidden].abs().max()) == 0
    assert expected[hidden].abs().max() > 0.3
    assert (W - expected)[~hidden].abs().max() < 0.05


NAIVE = [
    ({"name": "inpainting", "missing": 0.3, "further_missing": 0}, (1, 8, 9)),
    ({"name": "fourier-points", "acceleration": 2, "centre": 2, "further_drop": 0}, (1, 8, 9)),
    (
        {"name": "fourier-lines", "mask": {"name": "exact-random", "further_drop": 0, "acs_lines": 1}},
        (1, 8, 9),
    ),
    ({"name": "compressed-sensing", "measurements": 20, "further_drop": 0}, (1, 8, 9)),
    ({"name": "radial", "arms": 4, "further_drop": 0}, (1, 8, 9)),
    (
        {"name": "compose", "parts": [{"name": "identity"}, {"name": "inpainting", "further_missing": 0}]},
        SHAPE,
    ),
]


@pytest.mark.parametrize(("spec", "shape"), NAIVE)
def test_hiding_nothing_further_is_the_naive_masked_loss(spec, shape, generator):
    """λ ‖A†(A f(Ã(x + σε)) − A x)‖² with Ã = A: the loss whose minimiser knows nothing of hidden pixels."""
    corruption = make_corruption(spec, shape)
    assert corruption.ambient_obstacle == ""
    assert "naive masked loss, a baseline" in corruption.baseline
    batch = corruption.measure(torch.randn(4, *shape, generator=generator), generator)
    form = objective("ambient", corruption, LEVEL)

    def denoiser(x, sigma, *told):
        return torch.tanh(x)

    naive = replace(batch, further=batch.operator)
    drawn = batch.mask_further(lambda A: corruption.corrupt_further(A, generator))
    torch.testing.assert_close(*[form(denoiser, b, torch.Generator().manual_seed(5)) for b in (drawn, naive)])


def test_noise_that_is_taken_for_signal_would_bias_the_ambient_loss():
    """What ambient-tweedie corrects: its answer differs from ambient's on the same noisy data."""
    wrong = gain(COV + 0.16 * torch.eye(3, dtype=torch.float64), torch.full((8,), LEVEL), MASKS)
    assert (wrong - analytic()).abs().max() > 0.08
    assert (trained("ambient-tweedie", 0.4) - wrong).abs().max() > 0.08


def test_ambient_tweedie_without_masks_is_tweedie(generator):
    """A = Ã = I: the same number, sample by sample and at the same levels."""
    from gaussians import denoising

    corruption = denoising(SHAPE, 0.3)
    batch = corruption.measure(sample(COV, 16, SHAPE, generator), generator)
    batch = replace(batch, levels=torch.linspace(0.1, 3, 16))

    def denoiser(x, sigma, *told):
        return torch.tanh(x)

    losses = [
        objective(name, corruption)(denoiser, batch, torch.Generator().manual_seed(5))
        for name in ("tweedie", "ambient-tweedie")
    ]
    torch.testing.assert_close(*losses)
