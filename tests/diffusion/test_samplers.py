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


@pytest.mark.parametrize(
    ("name", "order", "more"),
    [
        ("euler", 1, {}),
        ("heun", 2, {}),
        ("tweedie", 2, {"truncate": False}),
        ("guided", 2, {"weight": 0}),
    ],
)
def test_order_of_convergence(name, order, more):
    """Halving the steps' size divides the distance from the exact flow by 2^order."""
    latent, errors = normal(50), []
    for steps in (40, 80, 160):
        x = sampler(name, steps=steps, **more)(ExactTeacher(), latent)
        errors.append(float((x - flow(80 * latent, 80, 0)).norm()))
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("euler", {"steps": 400}),
        ("heun", {"steps": 64}),
        ("tweedie", {"steps": 64, "truncate": False}),
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
    run = sampler("tweedie", steps=100)
    last = run.levels(0.5)[-2]
    assert 0.5 <= last < 0.55
    latents = torch.eye(3, dtype=torch.float64).view(3, *SHAPE)
    J = run(ExactTeacher(floor=0.5), latents).flatten(1)
    noisy = COV + last**2 * torch.eye(3, dtype=torch.float64)
    expected = COV @ torch.linalg.solve(noisy, COV)
    assert float((J.mT @ J - expected).abs().max()) < 0.02
    assert float((expected - COV).abs().max()) > 0.1


@pytest.mark.parametrize("name", ["euler", "heun", "tweedie"])
def test_stopping_follows_algorithm_3(name):
    """Steps down to the last level that is not below σ, then the estimate from there."""
    latent, run = normal(5), sampler(name, steps=12, stop=0.4)
    grid = run.params.grid.steps(12)
    x, teacher = latent * grid[0], ExactTeacher()
    for high, low in pairwise(grid):
        clean = teacher.predict(x, high)
        if low < 0.4:
            break
        first, ahead = (x - clean) / high, x - (high - low) / high * (x - clean)
        second = (ahead - teacher.predict(ahead, low)) / low
        x = ahead if name == "euler" else x - (high - low) * (first + second) / 2
    torch.testing.assert_close(run(ExactTeacher(floor=0.1), latent), clean)


STOPS = [0.05, 0.2, 0.5, 3.0]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("euler", {}),
        ("heun", {}),
        ("heun", {"churn": 5}),
        ("tweedie", {"stop": 0.02}),
        ("guided", {"weight": 0.01, "masks": 2}),
    ],
)
def test_one_trajectory_gives_the_images_of_several_stops(name, more):
    """Those of a run of its own for each stop, for one step more per stop."""
    latent, run, teacher = normal(4), sampler(name, steps=18, **more), ExactTeacher(4)
    ends = run.early(0.0, STOPS)
    assert list(ends) == STOPS
    *stopped, whole = run.ladder(teacher, latent, list(ends.values()))
    torch.testing.assert_close(whole, run(ExactTeacher(4), latent))
    for stop, images in zip(STOPS, stopped, strict=True):
        own = sampler(name, **{"steps": 18, **more, "stop": stop})
        torch.testing.assert_close(images, own(ExactTeacher(4), latent))
        assert run.spent(ends[stop]) == own.evaluations(0.0)
    if name != "guided":
        assert teacher.calls == run.evaluations(0.0) + len(STOPS)
    assert min((a - b).norm() for a, b in pairwise([*stopped, whole])) > 1e-3


def test_stops_that_change_nothing_are_left_out():
    """Below the end, above the start, or as many steps as a higher one takes."""
    run = sampler("tweedie", steps=18)
    last = run.levels(0.5)[-2]
    assert list(run.early(0.5, [0.1, last, last + 1e-6, 2, 100])) == [last + 1e-6, 2]
    grid = sampler("heun", steps=3).params.grid.steps(3)
    assert grid[2] < 0.05 < 0.5 < grid[1]
    assert sampler("heun", steps=3).early(0.0, [0.05, 0.2, 0.5]) == {0.5: 2}


@pytest.mark.parametrize("name", ["euler", "heun", "guided"])
def test_estimates_are_clipped_by_real_components(name):
    """Everything that a sampler sees of the teacher is within ±c; a loose clip changes nothing."""
    latent, loose = normal(20), sampler(name, steps=9, clip=1e6)
    torch.testing.assert_close(loose(ExactTeacher(), latent), sampler(name, steps=9)(ExactTeacher(), latent))
    one = sampler("euler", steps=1, clip=0.01)
    expected = ExactTeacher().predict(80 * latent, 80.0).clamp(-0.01, 0.01)
    torch.testing.assert_close(one(ExactTeacher(), latent), expected)
    assert expected.abs().max() == 0.01
    tight = sampler(name, steps=9, clip=0.3, **({"weight": 0.1} if name == "guided" else {}))
    free = sampler(name, steps=9, **({"weight": 0.1} if name == "guided" else {}))
    clipped, teacher = tight(ExactTeacher(), latent), ExactTeacher()
    real, others = teacher.predict, teacher.others
    teacher.predict = lambda x, sigma: real(x, sigma).clamp(-0.3, 0.3)
    teacher.others = lambda step, count: [
        lambda x, s, f=f: f(x, s).clamp(-0.3, 0.3) for f in others(step, count)
    ]
    torch.testing.assert_close(clipped, free(teacher, latent))


def test_clipping_of_complex_estimates():
    teacher = ExactTeacher()
    teacher.predict = lambda x, sigma: torch.full_like(x, 0.9 - 0.2j)
    image = sampler("heun", steps=2, clip=0.5)(teacher, normal(1).to(torch.complex128))
    torch.testing.assert_close(image, torch.full_like(image, 0.5 - 0.2j))


def test_truncation_needs_a_level_to_stop_at():
    with pytest.raises(UsageError, match="down to level 0"):
        sampler("tweedie")(ExactTeacher(), normal(1))
    with pytest.raises(UsageError, match="above the highest level"):
        sampler("heun", stop=100)(ExactTeacher(), normal(1))
    with pytest.raises(UsageError, match="sigma is called stop now"):
        sampler("tweedie", sigma=0.5)
    with pytest.raises(UsageError, match="stop without truncate"):
        sampler("tweedie", truncate=False, stop=0.5)


def test_guidance_subtracts_the_gradient_of_the_disagreement():
    """x̂ = W x and x̂_k = b_k x: ½ ∇ mean_k ‖(W − b_k) x‖² = mean_k (W − b_k)² x, W symmetric."""
    run, x, high, low = sampler("guided", weight=0.01), normal(4), 1.5, 1.1
    moved = run.step(ExactTeacher(), x, high, low, 0)
    plain = sampler("heun").step(ExactTeacher(), x, high, low, 0)
    W = COV @ torch.linalg.inv(COV + high**2 * torch.eye(3, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    square = torch.stack([(W - b * eye) @ (W - b * eye) for b in (0.1, 0.2, 0.3, 0.4)]).mean(0)
    torch.testing.assert_close(moved, plain - 0.01 * (x.flatten(1) @ square).view_as(x))
    assert (run.params.masks, sampler("guided").params.weight) == (4, 5e-4)
    assert run.evaluations(0.0) == 35 + 18 * 4


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


class Pixels:
    """An exact denoiser of independent pixels N(0, 1), behind masks; what they hide has absurd estimates."""

    floor = 0.0

    def __init__(self, masks):
        self.masks = masks

    def predict(self, x, sigma):
        return x / (1 + sigma**2)

    def level(self, sigma):
        return sigma

    def masked(self, step, count):
        turned = [mask.roll(step, -1) for mask in self.masks]
        return [
            (lambda x, sigma, m=mask: torch.where(m, self.predict(m * x, sigma), 99.0), mask)
            for mask in turned[:count]
        ]


def test_images_of_measured_pixels_are_those_of_whole_images_where_pixels_are_independent():
    shown = torch.arange(8) % 3 != 0
    masks = [mask.expand(2, 1, 4, 8) for mask in (shown, shown.roll(1))]
    assert bool((masks[0] | masks[1]).all())
    z = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    made = sampler("measurement", steps=10, masks=2)(Pixels(masks), z)
    torch.testing.assert_close(made, sampler("heun", steps=10)(Pixels(masks), z))
    made = sampler("measurement", steps=1, masks=1)(Pixels(masks), z)
    torch.testing.assert_close(made, masks[0] * z * 80 / (1 + 80**2), rtol=1e-3, atol=1e-4)
    assert sampler("measurement", steps=10, masks=2).evaluations(0.0) == 2 * 19
