"""Samplers with exact denoisers of Gaussian images: known trajectories, means and covariances."""

import math
from itertools import pairwise

import pytest
import torch
from gaussians import covariance, gain, second_moment

from mrigen.diffusion.samplers import SAMPLERS
from mrigen.errors import UsageError

SHAPE = (1, 1, 3)
COV = covariance(3, seed=6)


class ExactTeacher:
    """An exact denoiser of N(mean, COV)."""

    def __init__(self, batch=1, mean=0.0, floor=0.0):
        self.batch, self.mean, self.floor = batch, mean, floor
        self.calls = 0

    def predict(self, x, sigma):
        self.calls += 1
        W = gain(COV, torch.tensor([sigma], dtype=torch.float64))[0]
        return self.mean + ((x - self.mean).flatten(1) @ W.mT).view_as(x)

    def level(self, sigma):
        return sigma

    def noise(self, step):
        return normal(self.batch, step + 1)

    def others(self, step, count):
        return [lambda x, sigma, k=k: (k + 1) / 10 * x for k in range(count)]


def normal(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *SHAPE, dtype=torch.float64, generator=generator)


def sampler(name, **params):
    return SAMPLERS.build({"name": name, **params})


def flow(x, high, low):
    """The probability flow of N(0, C): x(σ) = (C + σ²)^{1/2} (C + σ_max²)^{-1/2} x(σ_max)."""
    values, vectors = torch.linalg.eigh(COV)
    scale = ((values + low**2) / (values + high**2)).sqrt()
    return (x.flatten(1) @ (vectors * scale) @ vectors.mT).view_as(x)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(name, order):
    """Halving the steps' size divides the distance from the exact flow by 2^order."""
    latent, errors = normal(50), []
    for steps in (40, 80, 160):
        x = sampler(name, steps=steps)(ExactTeacher(), latent)
        errors.append(float((x - flow(80 * latent, 80, 0)).norm()))
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("euler", {"steps": 400}),
        ("heun", {"steps": 64}),
        ("tweedie", {"steps": 400, "truncate": False}),
    ],
)
def test_covariance_and_mean_of_deterministic_samplers(name, params):
    """An affine map J z + m of the latent: J Jᵀ is the data's covariance, m its mean."""
    latents = torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)])
    x = sampler(name, **params)(ExactTeacher(mean=0.7, floor=0.3), latents.view(4, *SHAPE)).flatten(1)
    J = x[:3] - x[3]
    assert float((J.mT @ J - COV).abs().max()) < 0.02
    assert float((x[3] - 0.7).abs().max()) < 0.02


def test_mean_and_covariance_with_churn():
    """Noise that is added and removed again leaves the law as it is, with new images."""
    count, mean = 50_000, 0.7
    run = sampler("heun", steps=128, churn=20, churn_min=0.01, churn_max=50)
    x = run(ExactTeacher(count, mean), normal(count))
    assert float((x.mean(0) - mean).abs().max()) < 0.02
    assert float((second_moment(x - mean) - COV).abs().max()) < 0.04
    still = sampler("heun", steps=128)(ExactTeacher(count, mean), normal(count))
    assert float((x - still).abs().mean()) > 0.3


def test_truncated_tweedie_ends_with_the_estimate_at_the_noise_level_of_the_data():
    """The last level is the lowest one ≥ σ, and E[x₀ | x_σ] has covariance C (C + σ²)⁻¹ C."""
    run = sampler("tweedie", steps=400)
    last = run.levels(0.5)[-2]
    assert 0.5 <= last < 0.52
    latents = torch.eye(3, dtype=torch.float64).view(3, *SHAPE)
    J = run(ExactTeacher(floor=0.5), latents).flatten(1)
    noisy = COV + last**2 * torch.eye(3, dtype=torch.float64)
    expected = COV @ torch.linalg.solve(noisy, COV)
    assert float((J.mT @ J - expected).abs().max()) < 0.02
    assert float((expected - COV).abs().max()) > 0.1


def test_truncation_follows_algorithm_3():
    """Steps down to the level before σ, then the estimate from there; σ can be given."""
    latent, run = normal(5), sampler("tweedie", steps=12, sigma=0.4)
    grid = run.params.grid.steps(12)
    x, teacher = latent * grid[0], ExactTeacher()
    for high, low in pairwise(grid):
        clean = teacher.predict(x, high)
        if low < 0.4:
            break
        x = x - (high - low) / high * (x - clean)
    torch.testing.assert_close(run(ExactTeacher(floor=0.1), latent), clean)


def test_truncation_needs_a_level_to_stop_at():
    with pytest.raises(UsageError, match="down to level 0"):
        sampler("tweedie")(ExactTeacher(), normal(1))
    with pytest.raises(UsageError, match="above the highest level"):
        sampler("tweedie", sigma=100)(ExactTeacher(), normal(1))


def test_guidance_subtracts_the_gradient_of_the_disagreement():
    """x̂ = W x and x̂_k = b_k x: ½ ∇ mean_k ‖(W − b_k) x‖² = mean_k (W − b_k)² x, W symmetric."""
    run, x, high, low = sampler("guided", weight=0.01), normal(4), 1.5, 1.1
    moved = run.step(ExactTeacher(), x, high, low, 0)
    plain = sampler("euler").step(ExactTeacher(), x, high, low, 0)
    W = COV @ torch.linalg.inv(COV + high**2 * torch.eye(3, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    square = torch.stack([(W - b * eye) @ (W - b * eye) for b in (0.1, 0.2, 0.3, 0.4)]).mean(0)
    torch.testing.assert_close(moved, plain - 0.01 * (x.flatten(1) @ square).view_as(x))
    assert (run.params.masks, sampler("guided").params.weight) == (4, 5e-4)


def test_churn_adds_noise_between_its_bounds_only():
    """γ = min(S_churn / N, √2 − 1) for S_min ≤ σ ≤ S_max."""
    teacher, x = ExactTeacher(2), normal(2)
    run = sampler("euler", steps=10, churn=1, churn_min=0.1, churn_max=2, churn_noise=1.5)
    for sigma in (0.05, 3.0):
        torch.testing.assert_close(run.step(teacher, x, sigma, 0.0, 0), teacher.predict(x, sigma))
    raised = x + math.sqrt(1.1**2 - 1) * 1.5 * teacher.noise(0)
    torch.testing.assert_close(run.step(teacher, x, 1.0, 0.0, 0), teacher.predict(raised, 1.1))


@pytest.mark.parametrize("name", ["euler", "heun", "tweedie"])
def test_evaluations_are_counted(name):
    teacher = ExactTeacher(floor=0.5)
    run = sampler(name, steps=7)
    run(teacher, normal(1))
    assert teacher.calls == run.evaluations(0.5)
