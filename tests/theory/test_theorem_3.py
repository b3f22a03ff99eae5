"""DCD theorem 3: behind A the direction is found, its scale up to the noise, and ker A is free."""

import math

import pytest
import torch
from ideal import ideal_loss, minimise, normal, wasserstein

D, M, SIGMA = 5, 3, 0.6
A = normal(M, D, seed=0)
E = A.mT @ normal(M, seed=1)
E = E / E.norm()  # in Im Aᵀ, as the theorem's distance needs
SCALE = math.sqrt(1 + SIGMA**2 / float((A @ E).square().sum()))


def loss(u):
    return ideal_loss(torch.outer(u, u), torch.outer(E, E), SIGMA, A)


def split(u):
    """The parts of u in Im Aᵀ and in ker A."""
    inside = torch.linalg.pinv(A) @ (A @ u)
    return inside, u - inside


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_minimisers_are_scaled_and_shifted_in_the_kernel(seed):
    """A u* = ±√(1 + σ²/‖A e‖²) A e from any start; the part in ker A stays what it was."""
    u = normal(D, seed=seed)
    kernel = split(u)[1]
    minimise(lambda: loss(u), [u])
    inside, left = split(u.detach())
    sign = torch.sign(inside @ E)
    torch.testing.assert_close(inside, sign * SCALE * E, atol=1e-5, rtol=0)
    torch.testing.assert_close(left, kernel, atol=1e-6, rtol=0)
    assert kernel.norm() > 0.1


def test_gradient_descent_never_removes_what_the_operator_does_not_see():
    u = normal(D, seed=6)
    kernel = split(u)[1]
    for _ in range(200):
        u = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(u), u)
        assert float(split(gradient)[1].norm()) < 1e-9 * (1 + float(gradient.norm()))
        u = u - 0.01 * gradient
    torch.testing.assert_close(split(u.detach())[1], kernel)


def test_distance_of_the_minimum_norm_solution():
    """From a start in Im Aᵀ: W₂² = (√(1 + σ²/‖A e‖²) − 1)²; a part q in ker A adds ‖q‖²."""
    u, other = A.mT @ normal(M, seed=7), normal(D, seed=8)
    for start in (u, other):
        kernel = split(start)[1].clone()
        minimise(lambda start=start: loss(start), [start])
        found = start.detach()
        distance = wasserstein(torch.outer(found, found), torch.outer(E, E))
        expected = (SCALE - 1) ** 2 + float(kernel.square().sum())
        assert distance == pytest.approx(expected, abs=1e-5)


def test_outside_the_image_of_the_adjoint_the_distance_is_another():
    """e ∉ Im Aᵀ: the minimum-norm solution is not a multiple of e, so that the formula does not hold."""
    e = E + 0.8 * split(normal(D, seed=9))[1]
    e = e / e.norm()
    u = A.mT @ normal(M, seed=10)
    minimise(lambda: ideal_loss(torch.outer(u, u), torch.outer(e, e), SIGMA, A), [u])
    found, scale = u.detach(), math.sqrt(1 + SIGMA**2 / float((A @ e).square().sum()))
    torch.testing.assert_close(A @ found, torch.sign(found @ e) * scale * A @ e, atol=1e-5, rtol=0)
    distance = wasserstein(torch.outer(found, found), torch.outer(e, e))
    assert abs(distance - (scale - 1) ** 2) > 0.05
