"""The consistency term: zero for the exact denoiser, a closed form for a wrong one."""

import pytest
import torch
from gaussians import covariance, denoising, exact, objective, sample

from mrigen.diffusion.consistency import ConsistencyParams, inconsistency, reverse_step
from mrigen.diffusion.schedules import LogNormal

SHAPE = (1, 1, 3)
COV = covariance(3, seed=2)
HIGH, LOW = 0.9, 0.15


def wrong_below(denoiser, level, factor):
    """A denoiser that is off by a factor below a noise level."""

    def answer(x, sigma, *told):
        scale = torch.where(sigma < level, factor, 1.0)
        return denoiser(x, sigma) * scale.view(-1, 1, 1, 1)

    return answer


def term(denoiser, batch=4000, **params):
    generator = torch.Generator().manual_seed(0)
    high, low = torch.full((batch,), HIGH), torch.full((batch,), LOW)
    x = sample(COV, batch, SHAPE, generator)
    x = x + HIGH * torch.randn(x.shape, dtype=x.dtype, generator=generator)
    values = inconsistency(ConsistencyParams(**params), denoiser, x, high, denoiser(x, high), low, generator)
    return float(values.mean()), float(values.std() / batch**0.5)


@pytest.mark.parametrize("steps", [1, 8])
def test_it_vanishes_for_the_exact_denoiser(steps):
    """Without bias, however few paths and steps: the square of the mean, not the mean of the square."""
    mean, error = term(exact(COV), steps=steps, samples=4)
    assert error < 2e-3
    assert abs(mean) < 4 * error


def test_a_wrong_factor_below_the_noise_level_costs_its_square():
    """f → (1 + θ) f below σ: θ² E‖f(x_t, t)‖² per pixel, with E f fᵀ = C (C + t²)⁻¹ C."""
    theta = 0.3
    mean, error = term(wrong_below(exact(COV), 0.16, 1 + theta), batch=8000, samples=16)
    noisy = COV + HIGH**2 * torch.eye(3, dtype=torch.float64)
    expected = theta**2 * float((COV @ torch.linalg.solve(noisy, COV)).trace()) / 3
    assert error < 0.1 * expected
    assert abs(mean - expected) < 4 * error


def test_reverse_steps_have_the_posterior_law(generator):
    """Given x_t and x_0: mean x_0 + s²/t² (x_t − x_0), variance s² (1 − s²/t²)."""
    count, high, low = 200_000, torch.tensor([1.0]), torch.tensor([0.6])
    noise = torch.randn(count, 1, 1, 1, generator=generator)
    drawn = reverse_step(torch.tensor(2.0), torch.tensor(0.5), high, low, noise)
    assert float(drawn.mean()) == pytest.approx(0.5 + 0.36 * 1.5, abs=5e-3)
    assert float(drawn.var()) == pytest.approx(0.36 * (1 - 0.36), rel=0.01)


def test_tweedie_adds_the_weighted_term_on_its_first_images():
    """Below σ only the term sees an error: it alone tells a wrong denoiser there from the exact one."""
    corruption = denoising(SHAPE, 0.5)
    generator = torch.Generator().manual_seed(0)
    batch = corruption.measure(sample(COV, 2000, SHAPE, generator), generator)
    wrong = wrong_below(exact(COV), 0.5, 1.5)

    def mean(denoiser, **constants):
        form = objective("tweedie", corruption, **constants)
        return float(form(denoiser, batch, torch.Generator().manual_seed(1)).mean())

    assert mean(wrong) == mean(exact(COV))
    costs = {
        w: mean(wrong, consistency={"weight": w, "samples": 4, "images": 1000}) for w in (0.1, 1.0, 10.0)
    }
    base = mean(exact(COV))
    assert costs[1.0] > base + 0.1
    for weight in (0.1, 10.0):
        assert costs[weight] - base == pytest.approx(weight * (costs[1.0] - base), rel=1e-3)


def test_with_the_term_the_denoiser_is_trained_down_to_zero():
    corruption = denoising(SHAPE, 0.5)
    assert objective("tweedie", corruption).floor == 0.5
    assert objective("tweedie", corruption, consistency={}).floor == 0.0
    defaults = ConsistencyParams()
    assert (defaults.steps, defaults.samples, defaults.weight) == (8, 32, 1.0)


def test_levels_below_are_drawn_from_the_same_law(generator):
    """P(s < a | s < t) = Φ(ln a) / Φ(ln t) for the log-normal law."""
    law, top = LogNormal(), torch.full((50_000,), 0.4)
    levels = law.draw_below(top, generator)
    assert float(levels.max()) <= 0.4
    cdf = torch.special.ndtr((torch.tensor([0.2, 0.4]).log() - law.p_mean) / law.p_std)
    assert float((levels < 0.2).float().mean()) == pytest.approx(float(cdf[0] / cdf[1]), abs=0.01)


def test_levels_above_are_drawn_from_the_same_law(generator):
    """P(s > a | s > t) = Φ(−ln a) / Φ(−ln t), far in the tail too; where nothing is above, t itself."""
    law, least = LogNormal(), torch.full((50_000,), 0.4)
    levels = law.draw_above(least, generator)
    assert float(levels.min()) >= 0.4
    beyond = torch.special.ndtr((law.p_mean - torch.tensor([1.0, 0.4]).log()) / law.p_std)
    assert float((levels > 1).float().mean()) == pytest.approx(float(beyond[0] / beyond[1]), abs=0.01)
    tail = law.draw_above(torch.full((1000,), 80.0), generator)
    assert bool(((tail >= 80) & (tail < 2000)).all())
    point = LogNormal(p_mean=-2.0, p_std=1e-3).draw_above(torch.full((10,), 0.5), generator)
    assert bool((point == 0.5).all())
