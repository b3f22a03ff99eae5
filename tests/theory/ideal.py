"""The idealised distillation loss of DCD on linear Gaussian data, in closed form."""

import numpy as np
import torch
from gaussians import lbfgs

from mrigen.metrics.frechet import Statistics, frechet_distance

LEVELS = torch.linspace(0.2, 2.0, 7, dtype=torch.float64)


def fisher(data, generated):
    """E ‖∇ log q(x) − ∇ log p(x)‖² for x ~ p = N(0, generated), q = N(0, data); batched."""
    P, Q = torch.linalg.inv(data), torch.linalg.inv(generated)
    return (P @ generated @ P - 2 * P + Q).diagonal(dim1=-2, dim2=-1).sum(-1)


def ideal_loss(generated, data, sigma, A=None, levels=LEVELS):
    """DCD eq. 8 and 11: the teacher's score at σ² + σ_t², the generator's at σ_t², both through A.

    Mean over the levels σ_t and over the data's noise levels σ, a number or a tensor.
    """
    A = torch.eye(len(data), dtype=data.dtype) if A is None else A
    eye = torch.eye(len(A), dtype=data.dtype)
    noise = torch.as_tensor(sigma, dtype=data.dtype).reshape(-1, 1, 1, 1) ** 2
    level = levels.reshape(1, -1, 1, 1) ** 2
    teacher = A @ data @ A.mT + (noise + level) * eye
    student = (A @ generated @ A.mT + level * eye).expand_as(teacher)
    return fisher(teacher, student).mean()


def minimise(loss, parameters, rounds=6):
    """Run L-BFGS to convergence and return the loss."""
    for parameter in parameters:
        parameter.requires_grad_()
    for _ in range(rounds):
        lbfgs(loss, parameters, max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)
    return float(loss().detach())


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows, columns, seed):
    return torch.linalg.qr(normal(rows, columns, seed=seed))[0]


def wasserstein(a, b):
    """W₂² between N(0, a) and N(0, b), by the project's Fréchet distance."""
    mean = np.zeros(len(a))
    return frechet_distance(
        Statistics(mean, a.detach().numpy(), len(a)), Statistics(mean, b.detach().numpy(), len(b))
    )
