"""Solvers on Gaussian images: what they should find is known in closed form."""

from dataclasses import replace
from itertools import pairwise

import gaussians
import pytest
import torch
from dense import COV, SHAPE, SIGMA, A, Dense, N, Y, generator, posterior, random, task, teacher

from mrigen.diffusion.schedules import Karras
from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task, TeacherPrior
from mrigen.operators import Measurements
from mrigen.operators.inpainting import PixelMask

MEAN, COVARIANCE = posterior()


def solve(problem, name, **params):
    return SOLVERS.build({"name": name, **params}).solve(problem).image.double().flatten(1)


def test_plug_and_play_admm_finds_the_posterior_mean():
    """The denoiser of Gaussian images is a proximal map, and their posterior's mode is its mean."""
    constant = {"sigma_max": 0.7, "sigma_min": 0.7}
    found = solve(task(teacher()), "pnp", scheme="admm", steps=120, cg_steps=20, discrepancy=None, **constant)
    torch.testing.assert_close(found[0], MEAN, atol=1e-4, rtol=0)


def test_falling_levels_scale_the_dual_variable():
    found = solve(task(teacher()), "pnp", scheme="admm", steps=150, discrepancy=None, sigma_min=0.4)
    torch.testing.assert_close(found[0], MEAN, atol=1e-3, rtol=0)


def test_one_step_of_half_quadratic_splitting():
    """Pseudo-inverse, denoiser, ridge regression."""
    found = solve(task(teacher()), "pnp", steps=1, sigma_max=0.7, cg_steps=50, discrepancy=None)[0]
    first = torch.linalg.pinv(A) @ Y
    prior = COV @ torch.linalg.inv(COV + 0.49 * torch.eye(N)) @ first
    w = SIGMA**2 / 0.49
    expected = torch.linalg.solve(A.T @ A + w * torch.eye(N), A.T @ Y + w * prior)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_plug_and_play_with_a_generator_projects_onto_its_range():
    """The images of G are a line; x is the data-consistent image closest to it."""
    line = random(N, 1, seed=8)
    prior = generator(line @ line.T + 1e-14 * torch.eye(N))
    noiseless = task(prior, sigma=0.0)
    found = solve(noiseless, "pnp", steps=40, latent_steps=20, lr=0.03)[0]
    torch.testing.assert_close(A @ found, Y, atol=1e-4, rtol=0)
    # argmin over x, t of ‖x − t v‖² with A x = y
    v, null = line.flatten(), torch.linalg.svd(A).Vh[4:]
    start = torch.linalg.pinv(A) @ Y
    design = torch.cat([null, -v[None]]).T
    best = torch.linalg.lstsq(design, -start[:, None]).solution.flatten()
    torch.testing.assert_close(found, start + null.T @ best[:2], atol=2e-2, rtol=0)


@pytest.mark.parametrize("starts", [1, 3])
def test_latent_optimisation_finds_the_most_probable_image(starts):
    """λ = σ² makes ‖A L z − y‖² + λ ‖z‖² the posterior of z."""
    params = {"steps": 1200, "lr": 0.02, "starts": starts, "regularization": SIGMA**2, "discrepancy": None}
    found = solve(task(generator()), "latent", **params)
    torch.testing.assert_close(found[0], MEAN, atol=5e-3, rtol=0)


def test_several_starts_keep_the_best_for_each_image():
    """Few steps from three starts fit at least as well as from any one of them."""
    short = {"steps": 5, "lr": 0.1, "discrepancy": None}
    problem = task(generator(), images=20)
    many = problem.misfit(solve(problem, "latent", starts=3, **short).view(-1, *SHAPE))
    one = problem.misfit(solve(problem, "latent", starts=1, **short).view(-1, *SHAPE))
    assert (many <= one + 1e-9).all()
    assert (many < 0.9 * one).any()


def test_pivotal_tuning_fits_what_the_generator_cannot_make():
    line = random(N, 1, seed=8)
    prior = generator(line @ line.T + 1e-10 * torch.eye(N))
    weights = prior.network.root.clone()
    problem = task(prior, images=2)
    params = {"steps": 100, "discrepancy": None, "tuning_lr": 0.01}
    before = problem.misfit(solve(problem, "latent", **params).view(-1, *SHAPE))
    after = problem.misfit(solve(problem, "latent", tuning_steps=200, **params).view(-1, *SHAPE))
    assert (before > 0.1).all()
    assert (after < 1e-3 * before).all()
    assert torch.equal(prior.network.root, weights)


def same_seeds(sigma=SIGMA, **problem):
    """N + 1 images with one seed, so that what is random about a step is the same for all of them."""
    whole = task(images=N + 1, sigma=sigma, **problem)
    return Task(whole.data, [0] * (N + 1), whole.prior)


def affine(images):
    """F and b of x -> F x + b, from the images of zero and of the unit vectors."""
    flat = images.double().flatten(1)
    return (flat[1:] - flat[0]).T, flat[0]


BASIS = torch.cat([torch.zeros(1, N), torch.eye(N)]).double().view(-1, *SHAPE)


def test_langevin_has_the_posterior_as_its_limit():
    """One step is x - η P (x - m) + √(2 η) ε with the posterior's precision P and mean m at that level."""
    beta = 0.2
    grid = {"sigma_min": beta, "sigma_max": 1.5, "rho": 1.0}
    solver = SOLVERS.build({"name": "langevin", "levels": 3, "inner": 4, "step_size": 0.1, "grid": grid})
    problem = same_seeds(prior=teacher())
    state = solver.start(problem)
    state.chain = BASIS
    state = solver.step(problem, state, 11)
    length = 0.1 * beta**2
    F, b = affine(state.chain)
    b = b - (2 * length) ** 0.5 * problem.noise("langevin", 11)[0].double().flatten()
    noisy = COV + beta**2 * torch.eye(N)
    mean, spread = posterior(sigma=(SIGMA**2 + beta**2) ** 0.5, cov=noisy)
    torch.testing.assert_close((torch.eye(N) - F) / length, torch.linalg.inv(spread))
    torch.testing.assert_close(torch.linalg.solve(torch.eye(N) - F, b), mean)
    denoised = gaussians.gain(COV, torch.tensor([beta], dtype=torch.float64))[0]
    torch.testing.assert_close(state.x.flatten(1), state.chain.flatten(1) @ denoised.T)


@pytest.mark.parametrize("ancestral", [True, False])
def test_decomposed_sampling_is_exact_for_white_images(ancestral):
    """C = σ_d² I: the weight is the true one, so that mean and covariance of the samples are right."""
    white = 0.64 * torch.eye(N, dtype=torch.float64)
    rows = torch.linalg.qr(random(N, N, seed=4)).Q[:3]
    problem = same_seeds(prior=teacher(white), A=rows, y=Y[:3])
    solver = SOLVERS.build(
        {"name": "dds", "steps": 400, "sigma_data": 0.8, "spread": 0.0, "ancestral": ancestral}
    )
    state = solver.start(problem)
    levels = solver.params.grid.steps(400)
    mean = torch.zeros(N, dtype=torch.float64)
    spread = levels[0] ** 2 * torch.eye(N, dtype=torch.float64)
    for number, (high, low) in enumerate(pairwise(levels)):
        state.noisy = BASIS
        state = solver.step(problem, state, number)
        F, b = affine(state.noisy)
        added = low**2 * (1 - (low / high) ** 2) if ancestral else 0.0
        b = b - added**0.5 * problem.noise("ancestral", number)[0].double().flatten()
        mean, spread = F @ mean + b, F @ spread @ F.T + added * torch.eye(N)
    expected, covariance = posterior(rows, Y[:3], SIGMA, white)
    torch.testing.assert_close(mean, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(spread, covariance, atol=0.02, rtol=0)


def reference_dps(latent, noises, levels, gain_at, zeta, ancestral):
    """Chung et al. 2023 with a linear denoiser, in plain linear algebra."""
    x = latent * levels[0]
    for number in range(len(levels) - 1):
        high, low = levels[number], levels[number + 1]
        D = gain_at(high)
        estimate = D @ x
        residual = A @ estimate - Y
        move = -zeta * 2 * D.T @ A.T @ residual / residual.norm()
        if low == 0:
            return estimate + move
        ratio = low / high
        if ancestral:
            mean = estimate + ratio**2 * (x - estimate)
            x = mean + low * (1 - ratio**2) ** 0.5 * noises[number] + move
        else:
            x = estimate + ratio * (x - estimate) + move
    raise AssertionError


@pytest.mark.parametrize("ancestral", [True, False])
def test_dps_is_the_published_recursion(ancestral):
    grid = Karras(sigma_min=0.05, sigma_max=5.0)
    problem = task(teacher(), images=2)
    found = solve(problem, "dps", steps=12, guidance=0.3, ancestral=ancestral, grid=grid.model_dump())
    latent = problem.noise().double().flatten(1)
    noises = [problem.noise("ancestral", n).double().flatten(1) for n in range(12)]

    def gain_at(sigma):
        return COV @ torch.linalg.inv(COV + sigma**2 * torch.eye(N))

    for i in range(2):
        drawn = [noise[i] for noise in noises]
        expected = reference_dps(latent[i], drawn, grid.steps(12), gain_at, 0.3, ancestral)
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)


PIXELS = (1, 2, 3)
SEEN = [True, False, True, True, False, True]


def masked_task(sigma, images=1, mask=SEEN):
    corruption = gaussians.fixed_mask(mask, PIXELS)
    objective = gaussians.objective("ambient", corruption)
    operator = PixelMask(torch.tensor(mask).view(1, *PIXELS), 1)
    x = gaussians.sample(COV, 1, PIXELS, torch.Generator().manual_seed(4)).float()
    y = operator.forward(x).expand(images, -1, -1, -1)
    prior = TeacherPrior(gaussians.exact(COV), objective, lambda _: corruption)
    data = Measurements(y, operator, torch.full((images,), sigma))
    return Task(data, list(range(images)), prior), x


@pytest.mark.parametrize("masks", [0, 2])
def test_ambient_one_step_is_the_posterior_mean(masks):
    problem, _ = masked_task(SIGMA)
    rows = torch.eye(N, dtype=torch.float64)[torch.tensor(SEEN)]
    y = problem.data.y[0].double().flatten()[torch.tensor(SEEN)]
    mean, _ = posterior(rows, y)
    found = solve(problem, "ambient-one-step", masks=masks)
    torch.testing.assert_close(found[0], mean, atol=1e-5, rtol=1e-4)


def test_ambient_one_step_of_noiseless_data_keeps_what_was_measured():
    problem, x = masked_task(0.0)
    found = solve(problem, "ambient-one-step", sigma=1e-3)[0]
    seen = torch.tensor(SEEN)
    torch.testing.assert_close(found[seen], x.double().flatten()[seen], atol=0.02, rtol=0)


@pytest.mark.parametrize(("own", "told", "shown"), [(0.0, None, 0.003), (0.05, 0.3, 0.3), (0.5, 0.3, 0.5)])
def test_ambient_one_step_is_shown_no_less_noise_than_it_was_trained_for(own, told, shown):
    """Data without signal: what the network sees on measured pixels is the noise that was added."""
    problem, _ = masked_task(own, images=500)
    seen = []
    problem.prior.denoiser = lambda x, sigma, *_: seen.append((x, sigma)) or x
    blank = Task(replace(problem.data, y=torch.zeros(500, *PIXELS)), problem.seeds, problem.prior)
    solve(blank, "ambient-one-step", sigma=told)
    ((x, sigma),) = seen
    torch.testing.assert_close(sigma, torch.full((500,), shown))
    measured = x.flatten(1)[:, torch.tensor(SEEN)]
    assert (x.flatten(1)[:, ~torch.tensor(SEEN)] == 0).all()
    assert abs(measured.std() - (shown**2 - own**2) ** 0.5) < 0.03 * shown


def test_ambient_one_step_with_a_teacher_of_noisy_data_looks_above_their_noise(monkeypatch):
    """At the data's own level the loss of ambient-tweedie says nothing about what is seen."""
    problem, _ = masked_task(0.5, images=2)
    levels = []
    problem.prior.denoiser = lambda x, sigma, *_: levels.append(sigma) or x
    monkeypatch.setattr(type(problem.prior.objective), "floor", property(lambda _: 0.5))
    solve(problem, "ambient-one-step")
    solve(problem, "ambient-one-step", sigma=0.6)
    torch.testing.assert_close(levels[0], torch.full((2,), 0.5**0.5))
    torch.testing.assert_close(levels[1], torch.full((2,), 0.6))


def test_ambient_dps_looks_through_its_own_mask():
    """The first estimate at the highest level is E[x | Ã(x + σ ε), Ã], and hidden pixels are not guided."""
    problem, _ = masked_task(SIGMA, images=3)
    solver = SOLVERS.build({"name": "ambient-dps", "steps": 5})
    state = solver.start(problem)
    sigma = solver.params.grid.sigma_max
    estimate, move = solver.guided(problem, state, sigma, 0)
    seen = torch.tensor(SEEN).double()
    gain = gaussians.gain(COV, torch.tensor([sigma], dtype=torch.float64), seen[None])[0]
    expected = state.noisy.double().flatten(1) * seen @ gain.T
    torch.testing.assert_close(estimate.double().flatten(1), expected, atol=1e-4, rtol=1e-4)
    assert (move.flatten(1)[:, ~torch.tensor(SEEN)] == 0).all()
    assert (move.flatten(1)[:, torch.tensor(SEEN)] != 0).all()


def test_image_i_does_not_depend_on_its_batch():
    for name in ("dps", "dds", "langevin", "pnp"):
        steps = {"langevin": {"levels": 3, "inner": 2}}.get(name, {"steps": 5})
        whole = task(teacher(), images=3)
        alone = Task(
            Measurements(Y[None], Dense(A[None]), torch.tensor([SIGMA], dtype=torch.float64)), [2], teacher()
        )
        torch.testing.assert_close(
            solve(whole, name, **steps)[2], solve(alone, name, **steps)[0], atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "prior", "fault"),
    [
        ("dps", generator(), "needs a teacher"),
        ("latent", teacher(), "needs a one-step generator"),
        ("latent", None, "needs a one-step generator"),
        ("ambient-one-step", teacher(), "needs an ambient teacher"),
    ],
)
def test_the_wrong_prior_is_refused(name, prior, fault):
    with pytest.raises(UsageError, match=fault):
        SOLVERS.build({"name": name}).solve(task(prior))
