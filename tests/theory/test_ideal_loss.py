"""The closed form is the expectation of the project's SiD loss with α = 0 and exact scores."""

import pytest
import torch
from gaussians import covariance, denoising, exact, objective, sample
from ideal import fisher

from mrigen.losses import LOSSES
from mrigen.losses.base import DiffusedBatch

SHAPE = (1, 2, 2)


@pytest.mark.parametrize("level", [0.4, 1.5])
def test_sid_without_alpha_estimates_the_fisher_divergence(level):
    """E[d² + d · (f_ψ − x)] = E d² = σ_t⁴ · Fisher divergence, for f = x + σ_t² ∇ log p."""
    count, sigma = 200_000, 0.5
    data, generated = covariance(4, seed=1, rank=2), covariance(4, seed=2, rank=2)
    eye = torch.eye(4, dtype=torch.float64)
    expected = level**4 * fisher(data + (sigma**2 + level**2) * eye, generated + level**2 * eye)

    def teacher(x, sigma_t, *told):
        """Score at σ² + σ_t²."""
        score = -torch.linalg.solve(data + (sigma**2 + level**2) * eye, x.flatten(1).mT).mT
        return x + level**2 * score.view_as(x)

    form = objective("standard", denoising(SHAPE, sigma))
    sid = LOSSES.build({"name": "sid", "alpha": 0.0, "divisor_floor": 1e6}, objective=form)
    generator = torch.Generator().manual_seed(0)
    x = sample(generated, count, SHAPE, generator)
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    levels = torch.full((count,), level, dtype=torch.float64)
    values = 1e6 * sid.generator_loss_at(
        teacher, exact(generated), DiffusedBatch(x, None, None, levels, noise)
    )
    error = float(values.std() / count**0.5)
    assert error < 0.02 * float(expected)
    assert abs(float(values.mean() - expected)) < 4 * error
