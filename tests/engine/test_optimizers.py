"""Learning rates and clipping by their formulas."""

import math

import pytest
import torch
from tiny_jobs import distill_job, fabric, teacher_job
from torch import nn

from mrigen.engine.micro_batches import MicroBatch
from mrigen.engine.optimizers import Optimizer
from mrigen.engine.params import OptimizerParams

WHOLE = MicroBatch(0, 1.0, last=True)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({}, [2, 2, 2, 2, 2]),
        ({"ramp_images": 50}, [1, 2, 2, 2, 2]),
        ({"decay": "linear"}, [1.5, 1, 0.5, 0.25, 0]),
        ({"decay": "linear", "decay_from": 0.5}, [2, 2, 1, 0.5, 0]),
        ({"decay": "cosine"}, [2 * math.cos(t * math.pi / 2) ** 2 for t in (0.25, 0.5, 0.75, 0.875, 1)]),
        ({"decay": "cosine", "decay_from": 0.75}, [2, 2, 2, 1, 0]),
        (
            {"decay": "inverse-sqrt", "decay_from": 0.25},
            [2 * (25 / n) ** 0.5 for n in (25, 50, 75, 87.5, 100)],
        ),
        ({"decay": "linear", "ramp_images": 100}, [0.375, 0.5, 0.375, 0.21875, 0]),
    ],
)
def test_learning_rates(settings, rates):
    """After 25, 50, 75, 87.5 and 100 of 100 images."""
    params = OptimizerParams(lr=2.0, **settings)
    found = [params.rate(images, 100) for images in (25, 50, 75, 87.5, 100)]
    assert found == pytest.approx(rates, abs=1e-12)


def gradient(loss, components, **params):
    """The gradient of ``loss`` after clipping."""
    module, found = nn.Linear(4, 1, bias=False), []
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 3.0]]))
    optimizer = Optimizer(module, OptimizerParams(**params), 1, fabric(), components=components)
    real = optimizer.adam.step
    optimizer.adam.step = lambda: (found.append(module.weight.grad.clone()), real())[1]
    value = loss(module.weight)
    value.backward()
    optimizer.step([(WHOLE, value.detach())], 1)
    return found[0]


def test_the_norm_is_of_the_summed_loss():
    """A mean over d components, clipped as a sum, is 1/d of the clipped gradient of the sum itself."""
    d = 16

    def total(w):
        return (w**2).sum() / 2

    g = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    norm = float(g.norm())
    for limit in (0.5, 2.0, 100.0):
        factor = min(1.0, limit / norm)
        summed = gradient(total, 1, max_grad_norm=limit)
        torch.testing.assert_close(summed, factor * g, rtol=1e-4, atol=0)
        mean = gradient(lambda w: total(w) / d, d, max_grad_norm=limit)
        torch.testing.assert_close(mean, summed / d, rtol=1e-4, atol=0)
        old = gradient(lambda w: total(w) / d, d, max_grad_norm=limit, grad_norm_of="mean")
        torch.testing.assert_close(old, min(1.0, d * limit / norm) * g / d, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient(total, 1), g)


def test_losses_say_what_they_are_means_of():
    """Teacher and fake score: 2 x 1 x 8 x 8 real components; the generator's loss is a sum."""
    assert teacher_job().optimizer._components == 128
    assert teacher_job(optimizer={"grad_norm_of": "mean"}).optimizer._components == 1
    job = distill_job()
    assert (job.fake._components, job.student._components) == (128, 1)
