"""Whose samples have the posterior's mean and covariance: Gaussian images and the exact denoiser."""

from itertools import pairwise

import gaussians
import pytest
import torch
from dense import COV, SHAPE, SIGMA, A, N, Y, posterior, task, teacher

from mrigen.inverse import SOLVERS, Task, TeacherPrior
from mrigen.operators import Measurements, MultiCoilMRI, PixelMask
from mrigen.tensors import randn_like

MEAN, COVARIANCE = posterior()
EYE = torch.eye(N, dtype=torch.float64)
BASIS = torch.cat([torch.zeros(1, N, dtype=torch.float64), EYE]).view(-1, *SHAPE)


def same_seeds():
    """N + 1 images with one seed, so that what is random about a step is the same for all of them."""
    whole = task(teacher(), images=N + 1)
    return Task(whole.data, [0] * (N + 1), whole.prior)


def exact(words):
    """``mmps`` with the Jacobian itself."""
    return SOLVERS.build(SOLVERS.parse(f"mmps:covariance=jacobian,{words}"))


def affine(images):
    """F and b of x -> F x + b, from the images of zero and of the unit vectors."""
    flat = images.double().flatten(1)
    return (flat[1:] - flat[0]).T, flat[0]


def spreads(covariance):
    """Standard deviations of samples over the posterior's, along the directions where they differ most."""
    root = torch.linalg.inv(torch.linalg.cholesky(COVARIANCE))
    return torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt()


def bias(mean):
    """Distance of the samples' mean from the posterior's, in its standard deviations, per dimension."""
    root = torch.linalg.inv(torch.linalg.cholesky(COVARIANCE))
    return (root @ (mean - MEAN)).norm() / N**0.5


def annealed_moments(name, **params):
    """Mean and covariance of the samples of a solver whose steps are affine, without drawing any."""
    problem, solver = same_seeds(), SOLVERS.build({"name": name, **params})
    state = solver.start(problem)
    levels = solver.params.grid.steps(solver.steps)
    mean, spread = torch.zeros(N, dtype=torch.float64), levels[0] ** 2 * EYE
    for number, (high, low) in enumerate(pairwise(levels)):
        state.noisy = BASIS
        state = solver.step(problem, state, number)
        F, b = affine(state.noisy)
        added = low**2 * (1 - (low / high) ** 2)
        b = b - added**0.5 * problem.noise("ancestral", number)[0].double().flatten()
        mean, spread = F @ mean + b, F @ spread @ F.T + added * EYE
    return mean, spread


def chain_moments(**params):
    """The same of a Langevin chain, before its last denoising."""
    problem, solver = same_seeds(), SOLVERS.build({"name": "langevin", **params})
    state = solver.start(problem)
    levels = solver.params.grid.steps(solver.params.levels)
    mean, spread = torch.zeros(N, dtype=torch.float64), levels[0] ** 2 * EYE
    for number in range(solver.steps):
        state.chain = BASIS
        state = solver.step(problem, state, number)
        F, b = affine(state.chain)
        added = 2 * solver.params.step_size * levels[number // solver.params.inner] ** 2
        b = b - added**0.5 * problem.noise("langevin", number)[0].double().flatten()
        mean, spread = F @ mean + b, F @ spread @ F.T + added * EYE
    return mean, spread


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_moment_matching_finds_the_mean_given_image_and_data(sigma):
    """E[x₀ | x_t, y] from the two precisions, with nothing in common with the solver's formula."""
    problem, solver = task(teacher(), images=3), exact("cg_steps=12")
    state = solver.start(problem)
    found, move = solver.guided(problem, state, sigma, 0)
    x = state.noisy.double().flatten(1)
    precision = torch.linalg.inv(COV) + EYE / sigma**2 + A.T @ A / SIGMA**2
    expected = torch.linalg.solve(precision, (x / sigma**2 + Y @ A / SIGMA**2).T).T
    torch.testing.assert_close(found.double().flatten(1), expected, atol=1e-4, rtol=1e-4)
    assert (move == 0).all()


@pytest.mark.parametrize("covariance", ["jacobian", "spectrum"])
def test_moment_matching_of_complex_images(covariance):
    """Real and imaginary parts of different variance: the gradient of the posterior's logarithm is zero."""
    operator = MultiCoilMRI.example().to(dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    y = operator.forward(randn_like(operator.zero_image(), random))
    variances = torch.tensor([1.0, 0.2], dtype=torch.float64)

    def scaled(x, factors):
        return torch.view_as_complex(torch.view_as_real(x) * factors)

    def denoiser(x, sigma, A_tilde=None, labels=None, augment=None):
        return scaled(x, variances / (variances + sigma[0] ** 2))

    objective = gaussians.objective("standard", gaussians.denoising(SHAPE))
    prior = TeacherPrior(denoiser, objective, lambda _: gaussians.denoising(SHAPE))
    level = torch.full((2,), 0.3, dtype=torch.float64)
    problem = Task(Measurements(y, operator, level), [0, 1], prior)
    solver = SOLVERS.build({"name": "mmps", "cg_steps": 60, "covariance": covariance, "ancestral": False})
    state = solver.start(problem)
    state.noisy = randn_like(operator.zero_image(), random)
    x, _ = solver.guided(problem, state, 0.7, 0)
    mean = denoiser(state.noisy, torch.tensor([0.7]))
    precision = 1 / variances + 1 / 0.7**2
    slope = operator.adjoint(operator.forward(x) - y) / 0.3**2 + scaled(x - mean, precision)
    assert slope.abs().max() < 1e-4 * operator.adjoint(y).abs().max() / 0.3**2


def test_moment_matching_samples_the_posterior():
    """The more steps the closer; the mean is right with few."""
    mean, spread = annealed_moments("mmps", covariance="jacobian", steps=50, cg_steps=6)
    assert bias(mean) < 0.05
    assert spreads(spread).min() > 0.75
    mean, spread = annealed_moments("mmps", covariance="jacobian", steps=400, cg_steps=6)
    assert bias(mean) < 0.02
    torch.testing.assert_close(spreads(spread), torch.ones(N).double(), atol=0.06, rtol=0)


@pytest.mark.parametrize("steps", [3, 12])
def test_draws_of_stationary_images_have_the_posterior_with_any_number_of_steps(steps):
    """Images with a power spectrum, behind missing pixels: mean and covariance of 6,000 samples."""
    size, sigma, count = (6, 5), 0.1, 6000
    rows, columns = torch.fft.fftfreq(size[0]), torch.fft.fftfreq(size[1])
    power = 0.5 / (0.1 + (torch.hypot(rows[:, None], columns) * 6).round() ** 2).double()
    basis = torch.eye(30, dtype=torch.float64).view(30, *size)
    covariance = torch.fft.ifft2(power * torch.fft.fft2(basis)).real.flatten(1)

    def denoiser(x, level, A_tilde=None, labels=None, augment=None):
        gain = power / (power + level[0].double() ** 2)
        return torch.fft.ifft2(gain * torch.fft.fft2(x.double())).real.to(x)

    law = gaussians.denoising((1, *size))
    prior = TeacherPrior(denoiser, gaussians.objective("standard", law), lambda _: law)
    seen = (torch.rand(30, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    y = (seen * torch.linalg.cholesky(covariance)[:, 0]).view(1, 1, *size).float().expand(count, -1, -1, -1)
    operator = PixelMask(seen.view(1, 1, *size) > 0, 1)
    problem = Task(Measurements(y, operator, torch.full((count,), sigma)), list(range(count)), prior)
    solver = SOLVERS.build({"name": "mmps", "steps": steps, "cg_steps": 40})
    samples = solver.solve(problem).image.double().flatten(1)
    precision = torch.linalg.inv(covariance) + torch.diag(seen) / sigma**2
    expected = torch.linalg.inv(precision)
    deviation = expected.diagonal().sqrt()
    mean = expected @ (y[0].double().flatten() * seen) / sigma**2
    assert ((samples.mean(0) - mean) / deviation).abs().max() < 5 / count**0.5
    difference = (torch.cov(samples.T) - expected) / torch.outer(deviation, deviation)
    assert difference.abs().max() < 7 / count**0.5


def test_slow_langevin_samples_the_posterior():
    mean, spread = chain_moments(inner=40)
    assert bias(mean) < 0.1
    torch.testing.assert_close(spreads(spread), torch.ones(N).double(), atol=0.15, rtol=0)


def test_decomposed_sampling_loses_what_its_floor_claims_to_know():
    """spread = 0.1 lets the data move what they hardly measure, and directions are left without spread."""
    cautious = spreads(annealed_moments("dds", steps=100)[1])
    free = spreads(annealed_moments("dds", steps=100, spread=0.0)[1])
    assert cautious.min() < 0.5
    assert free.min() > 1.2 * cautious.min()


def test_dps_is_no_posterior_sampler():
    """Its step has the length ζ however large the misfit: too little spread here, too much there."""
    problem = task(teacher(), images=200)
    images = SOLVERS.build({"name": "dps", "steps": 60}).solve(problem).image.double().flatten(1)
    found = spreads(torch.cov(images.T))
    assert found.min() < 0.3
    assert found.max() > 2


def test_plug_and_play_has_one_answer():
    """Without masks nothing about it is random: samples do not differ."""
    images = SOLVERS.build({"name": "pnp", "steps": 5}).solve(task(teacher(), images=3)).image
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
