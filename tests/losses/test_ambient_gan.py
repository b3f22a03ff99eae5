"""AmbientGAN: what is left of distillation, and its optimum on Gaussian measurements."""

import math

import pytest
import torch
from pydantic import ValidationError

from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.params import DistillParams
from mrigen.errors import UsageError
from mrigen.losses import LOSSES
from mrigen.operators.corruption import make_corruption
from mrigen.operators.noise import Noise

SPREAD, NOISE = 0.8, 0.5
QUIET = {"adversary": {"weight": 1.0, "noise": {"t_max": 1.0}}}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Best:
    """The best discriminator of N(0, a) and N(0, b) per pixel: the log ratio of the densities."""

    def __init__(self, real, generated):
        self.real, self.generated = real, generated

    def encode(self, x, sigma, A_tilde=None, labels=None):
        del sigma, labels
        precision = 1 / self.generated - 1 / self.real
        ratio = 0.5 * (x.square() * precision - math.log(self.real / self.generated))
        if A_tilde is None:
            return ratio
        return ratio * A_tilde.conditioning()  # of a pixel that is not measured there is nothing to tell


@pytest.mark.parametrize(("name", "missing", "noise"), [("standard", 0.0, NOISE), ("ambient", 0.5, 0.0)])
@pytest.mark.parametrize("start", [0.2, 2.0])
def test_the_generator_finds_the_variance(name, missing, noise, start):
    """x_g = s z against data N(0, 0.8²), measured with noise or behind masks: s → 0.8."""
    words = {"name": "inpainting", "missing": missing} if missing else {"name": "identity"}
    corruption = make_corruption(words, (1, 4, 4), Noise(low=noise))
    objective = OBJECTIVES.build({"name": name}, corruption=corruption)
    loss = LOSSES.build({"name": "ambient-gan", **QUIET}, objective=objective)
    draw = rng(1)
    x = SPREAD * torch.randn(1024, 1, 4, 4, generator=draw)
    data = corruption.measure(x, draw)
    log_s = torch.tensor(math.log(start), requires_grad=True)
    for step in range(400):
        s = float(log_s.detach().exp())
        best = Best(SPREAD**2 + noise**2, s**2 + noise**2)
        x_g = log_s.exp() * torch.randn(1024, 1, 4, 4, generator=draw)
        value = loss.adversary.generator_loss(best, data, x_g, draw).mean() / 16
        (slope,) = torch.autograd.grad(value, log_s)
        with torch.no_grad():
            log_s -= 0.5 / (1 + step / 100) * slope
    assert float(log_s.detach().exp()) == pytest.approx(SPREAD, rel=0.02)


def test_nothing_else_trains():
    """The other terms are zero, and no network is asked for them."""
    corruption = make_corruption({"name": "inpainting", "missing": 0.5}, (1, 4, 4))
    objective = OBJECTIVES.build({"name": "ambient"}, corruption=corruption)
    loss = LOSSES.build({"name": "ambient-gan"}, objective=objective)
    x_g = torch.randn(3, 1, 4, 4, requires_grad=True)
    assert loss.adversary is not None
    assert loss.fake_score_loss(None, x_g, corruption, rng()).tolist() == [0, 0, 0]
    assert loss.generator_loss(None, None, x_g, corruption, rng()).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("loss", "others", "message"),
    [
        ({"adversary": None}, {}, "adversary"),
        ({"domain": "image"}, {}, "leave out domain"),
        ({"noise": {"t_max": 500}}, {}, "leave out noise"),
        ({}, {"augment": 0.1}, "only a discriminator: leave out augment"),
        ({}, {"fake_loss": "further"}, "only a discriminator: leave out fake_loss"),
    ],
)
def test_what_it_does_not_use_is_refused(loss, others, message):
    with pytest.raises((ValidationError, UsageError), match=message):
        DistillParams(images=4, loss={"name": "ambient-gan", **loss}, **others)
