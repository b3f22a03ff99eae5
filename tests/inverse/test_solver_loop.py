"""The loop that all solvers share: early stop, progress, per-image results."""

import gaussians
import pytest
import torch
from dense import SHAPE, A, Dense, N, Y, random

from mrigen.errors import UsageError
from mrigen.inverse import SOLVERS, Task, TeacherPrior
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.operators.corruption import make_corruption
from mrigen.operators.nonlinear import FourierMagnitude
from mrigen.tensors import randn_like


def noisy_task(images=4, sigma=0.1):
    truth = random(images, *SHAPE, seed=4)
    operator = Dense(A[None])
    y = operator.forward(truth) + sigma * random(images, len(A), seed=9)
    return Task(Measurements(y, operator, torch.full((images,), sigma).double()), list(range(images)))


def cg(steps=20, discrepancy=1.0):
    return SOLVERS.build({"name": "cg-sense", "steps": steps, "discrepancy": discrepancy, "smoothness": 0})


def test_every_image_stops_at_the_first_step_that_fits_its_noise():
    task = noisy_task()
    found = cg().solve(task)
    goal = 0.1**2 * len(A)
    for i in range(4):
        count = int(found.steps[i])
        before = cg(count - 1, None).solve(task).image[i] if count > 1 else torch.zeros(SHAPE).double()
        assert task.misfit(found.image)[i] <= goal
        assert (A @ before.flatten() - task.data.y[i]).square().sum() > goal
        torch.testing.assert_close(found.image[i], cg(count, None).solve(task).image[i])


def test_images_stop_at_different_steps():
    assert len(set(cg().solve(noisy_task(12)).steps.tolist())) > 1


def test_nothing_stops_where_the_noise_is_unknown():
    assert cg(2).solve(noisy_task(sigma=0.0)).steps.tolist() == [2] * 4
    assert cg(2, discrepancy=None).solve(noisy_task()).steps.tolist() == [2] * 4


@pytest.mark.parametrize("discrepancy", [None, 1.0])
def test_progress_always_adds_up(discrepancy):
    told = []
    cg(20, discrepancy).solve(noisy_task(), lambda units=1, note="": told.append(units))
    assert sum(told) == 20


def test_misfit_is_relative():
    task = noisy_task()
    found = cg(2, None).solve(task)
    expected = (found.image.flatten(1) @ A.T - task.data.y).norm(dim=1) / task.data.y.norm(dim=1)
    torch.testing.assert_close(found.misfit, expected)


def test_the_noise_counts_where_something_is_measured():
    operator = MultiCoilMRI.example()
    y = torch.zeros(2, 3, 12, 9, dtype=torch.complex64)
    task = Task(Measurements(y, operator, torch.tensor([0.5, 2.0])), [0, 1])
    lines = operator.mask.flatten(1).sum(1)
    torch.testing.assert_close(task.noise_energy(), torch.tensor([0.25, 4.0]) * lines * 12 * 3 * 2)


def test_cg_sense_is_the_pseudo_inverse_and_ridge_regression():
    task = Task(Measurements(Y[None], Dense(A[None]), torch.zeros(1)), [0])
    torch.testing.assert_close(cg(30).solve(task).image.flatten(), torch.linalg.pinv(A) @ Y)
    ridge = SOLVERS.build({"name": "cg-sense", "regularization": 0.3}).solve(task).image.flatten()
    torch.testing.assert_close(ridge, torch.linalg.solve(A.T @ A + 0.3 * torch.eye(N), A.T @ Y))


def test_nonlinear_operators_are_refused_by_name():
    operator = FourierMagnitude.example()
    y = operator.forward(operator.zero_image())
    with pytest.raises(UsageError, match=r"FourierMagnitude is not linear.*latent or dps"):
        cg().solve(Task(Measurements(y, operator, torch.zeros(len(y))), [0, 1]))


def test_every_solver_says_what_it_needs_and_has_defaults():
    for name in SOLVERS.names():
        solver = SOLVERS[name].example()
        assert solver.steps >= 1
        assert solver.needs <= {"teacher", "generator"}


def test_complex_gradients_descend():
    """The gradient of a misfit with respect to complex images is ∂/∂Re + i ∂/∂Im."""
    from mrigen.inverse.prior import gradient

    operator = MultiCoilMRI.example().to(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = randn_like(operator.zero_image(), generator).requires_grad_()
    y = operator.forward(randn_like(operator.zero_image(), generator))
    task = Task(Measurements(y, operator, torch.zeros(2)), [0, 1])
    with torch.enable_grad():
        found = gradient(task.misfit(x), x)
    torch.testing.assert_close(found, 2 * operator.adjoint(operator.forward(x) - y).detach())


def test_seeds_belong_to_images():
    y = torch.zeros(2, len(A), dtype=torch.float64)
    with pytest.raises(ValueError, match="as many seeds"):
        Task(Measurements(y, Dense(A[None]), torch.zeros(2)), [0])


@pytest.mark.parametrize(("hide", "different"), [("nothing", 0), ("fixed", 1), ("fresh", 3)])
def test_how_many_masks_a_teacher_looks_through(hide, different):
    """In three steps: none, one, or another one in each."""
    shown = []

    def denoiser(x, sigma, A_tilde=None, labels=None, augment=None):
        if A_tilde is not None:
            shown.append(tuple(A_tilde.conditioning().flatten().tolist()))
        return x

    law = make_corruption({"name": "inpainting"}, (1, 8, 8))
    operator = law.draw(1, torch.Generator().manual_seed(0))
    teacher = TeacherPrior(denoiser, gaussians.objective("ambient", law), lambda _: law)
    data = Measurements(operator.zero_image(), operator, torch.zeros(1))
    SOLVERS.build({"name": "dds", "steps": 3, "hide": hide}).solve(Task(data, [0], teacher))
    assert len(set(shown)) == different
    assert len(shown) == (0 if hide == "nothing" else 3)
