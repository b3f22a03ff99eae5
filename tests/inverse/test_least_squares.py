"""Conjugate gradients against numpy's linear algebra."""

import numpy as np
import torch
from dense import SHAPE, A, Dense, N, Y, random

from mrigen.inverse.linear import conjugate_gradient, data_consistent
from mrigen.operators import MultiCoilMRI


def test_conjugate_gradient_solves_each_system_of_a_batch():
    roots = random(3, N, N, dtype=torch.complex128)
    matrices = roots @ roots.mH + torch.tensor([0.1, 1.0, 10.0])[:, None, None] * torch.eye(N)
    rhs = random(3, N, seed=5, dtype=torch.complex128)
    found = conjugate_gradient(lambda d: torch.einsum("bij,bj->bi", matrices, d), rhs, 50, 1e-12)
    torch.testing.assert_close(found, torch.linalg.solve(matrices, rhs))


def test_a_sample_does_not_depend_on_its_neighbours():
    matrices = torch.stack([torch.diag(torch.linspace(1, top, N)) for top in (1.0, 2.0, 500.0)]).double()
    rhs = random(3, N)
    together = conjugate_gradient(lambda d: torch.einsum("bij,bj->bi", matrices, d), rhs, 40, 1e-3)
    for i in range(3):
        alone = conjugate_gradient(lambda d, i=i: d @ matrices[i], rhs[i : i + 1], 40, 1e-3)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_zero_right_hand_side():
    zero = torch.zeros(2, N, dtype=torch.float64)
    assert torch.equal(conjugate_gradient(lambda d: d, zero, 5), zero)


def test_data_consistency_is_ridge_regression_about_the_centre():
    centre, weight = random(2, *SHAPE, seed=7), torch.tensor([0.2, 3.0], dtype=torch.float64)
    x = data_consistent(Dense(A[None]), Y.expand(2, -1), centre, weight, 50, 1e-12)
    for i in range(2):
        a, y, c = A.numpy(), Y.numpy(), centre[i].flatten().numpy()
        w = weight[i].item()
        expected = np.linalg.solve(a.T @ a + w * np.eye(N), a.T @ y + w * c)
        np.testing.assert_allclose(x[i].flatten().numpy(), expected, atol=1e-10)


def test_without_weight_the_closest_consistent_image_is_found():
    """x = c + A⁺(y − A c): what A does not see stays."""
    centre = random(1, *SHAPE, seed=7)
    x = data_consistent(Dense(A[None]), Y[None], centre, torch.zeros(1), 50, 1e-12).flatten()
    c = centre.flatten()
    torch.testing.assert_close(x, c + torch.linalg.pinv(A) @ (Y - A @ c))


def test_multi_coil_data_consistency_against_a_dense_matrix():
    operator = MultiCoilMRI.example().to(dtype=torch.float64)
    B, _, H, W = operator.zero_image().shape
    basis = torch.eye(H * W, dtype=torch.complex128).view(-1, 1, H, W)
    centre = random(B, 1, H, W, seed=2, dtype=torch.complex128)
    y = operator.forward(random(B, 1, H, W, seed=3, dtype=torch.complex128))
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    x = data_consistent(operator, y, centre, weight, 200, 1e-12)
    for i in range(B):
        one = operator.select(i)
        matrix = torch.stack([one.forward(e[None]).flatten() for e in basis], 1)
        normal = matrix.mH @ matrix + weight[i] * torch.eye(H * W)
        expected = torch.linalg.solve(normal, matrix.mH @ y[i].flatten() + weight[i] * centre[i].flatten())
        torch.testing.assert_close(x[i].flatten(), expected)
