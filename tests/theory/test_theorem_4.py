"""DCD theorem 4: the rank-one landscape has two minima, and saddles that are strict."""

import math

import pytest
import torch
from ideal import LEVELS, ideal_loss, minimise, normal

D, SIGMA = 4, 0.7
E = torch.eye(D, dtype=torch.float64)[0]
DATA = torch.outer(E, E)
C = LEVELS**2 + SIGMA**2
ETA = float(((2 * C + 1) / (C**2 * (C + 1) ** 2)).mean())
BEST = math.sqrt(1 + SIGMA**2)


def loss(u):
    return ideal_loss(torch.outer(u, u), DATA, SIGMA)


def gradient(u):
    return torch.autograd.functional.jacobian(loss, u)


def hessian(u):
    return torch.autograd.functional.hessian(loss, u)


def saddle(seed):
    """A point u ⊥ e with ‖u‖ = σ."""
    u = normal(D, seed=seed)
    u[0] = 0
    return SIGMA * u / u.norm()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_saddles_are_critical_and_strict(seed):
    """Zero gradient, and e is an eigenvector of the Hessian with the eigenvalue −2 η̃ < 0."""
    u = saddle(seed)
    assert float(gradient(u).norm()) < 1e-10
    torch.testing.assert_close(hessian(u) @ E, -2 * ETA * E, atol=1e-9, rtol=0)
    assert float(torch.linalg.eigvalsh(hessian(u))[0]) == pytest.approx(-2 * ETA)
    assert float(gradient(1.1 * u).norm()) > 1e-2


def test_minima_are_critical_and_curved_upwards():
    """±√(1 + σ²) e: positive definite, 2 η̃ across e."""
    for sign in (1, -1):
        u = sign * BEST * E
        assert float(gradient(u).norm()) < 1e-10
        values = torch.linalg.eigvalsh(hessian(u))
        assert float(values[0]) > 0
        across = torch.eye(D, dtype=torch.float64)[1]
        torch.testing.assert_close(hessian(u) @ across, 2 * ETA * across, atol=1e-9, rtol=0)


def test_all_critical_points_are_of_these_two_kinds():
    """Newton's method from many starts ends in minima and in saddles, nowhere else but at 0."""
    kinds = {"minimum": 0, "saddle": 0}
    for seed in range(60):
        u = 0.8 * normal(D, seed=seed)
        for _ in range(40):
            step = torch.linalg.lstsq(hessian(u), gradient(u)[:, None], rcond=1e-9).solution[:, 0]
            u = u - step * min(1.0, 0.3 / float(step.norm()))
            if float(gradient(u).norm()) < 1e-12:
                break
        if float(gradient(u).norm()) > 1e-9 or float(u.norm()) < 1e-3:
            continue
        across = float(u[1:].norm())
        if across < 1e-6:
            assert abs(float(u[0])) == pytest.approx(BEST, abs=1e-6)
            kinds["minimum"] += 1
        else:
            assert across == pytest.approx(SIGMA, abs=1e-6)
            assert abs(float(u[0])) < 1e-6
            kinds["saddle"] += 1
    assert min(kinds.values()) >= 5


def test_descent_leaves_a_saddle_for_a_global_minimum():
    """A push of 1e-3 along e is enough."""
    u = saddle(5) + 1e-3 * E
    value = minimise(lambda: loss(u), [u])
    torch.testing.assert_close(u.detach(), BEST * E, atol=1e-5, rtol=0)
    assert value < float(loss(saddle(5))) - 0.1
